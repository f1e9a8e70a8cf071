# SPDX-License-Identifier: Apache-2.0
"""Worker processes that are handed calls, and that a signal to their parent ends at once.

The executors of the standard library wait for calls that have begun, however slow what they read
is, and start processes that run the main script again. These are plain processes of the same
Python, each with a pipe of its own.
"""

import os
import pickle
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from queue import SimpleQueue
from typing import Any

from pippin.system.children import WorkerKilledError, end_with, ending
from pippin.system.stop import leave_stops_to_the_parent

SERVE = "import sys; from pippin.system.workers import serve; serve(*map(int, sys.argv[1:]))"

Submit = Callable[..., "Future[Any]"]
"""(function that can be imported, arguments that can be pickled) -> its result, later."""


@contextmanager
def worker_pool(processes: int, advice: str) -> Iterator[Submit]:
    """Workers, none of which is left when the body ends.

    After an error, calls that have begun come to their end; after a signal, the workers are
    killed. They are killed with their parent too.

    Args:
        processes: how many.
        advice: what needs less memory, for the message.

    Raises:
        WorkerKilledError: from a future, where the system killed the worker.
    """
    workers: list[_Worker] = []
    threads = ThreadPoolExecutor(processes)
    idle: SimpleQueue[_Worker] = SimpleQueue()

    def call(function: Callable[..., Any], *arguments: Any) -> Any:
        worker = idle.get()
        try:
            return worker.call(function, *arguments)
        finally:
            idle.put(worker)

    def submit(function: Callable[..., Any], *arguments: Any) -> "Future[Any]":
        return threads.submit(call, function, *arguments)

    try:
        for _ in range(processes):
            workers.append(_Worker(advice))
            idle.put(workers[-1])
        try:
            yield submit
        except Exception:
            threads.shutdown(cancel_futures=True)
            raise
        threads.shutdown()
    finally:
        for worker in workers:
            worker.kill()
        for worker in workers:
            worker.close()
        threads.shutdown(cancel_futures=True)


class _Worker:
    """One process.

    Args:
        advice: what to do where the system kills it.
    """

    def __init__(self, advice: str) -> None:
        self._advice = advice
        self._calls, theirs = Pipe()
        with theirs:
            descriptor = theirs.fileno()
            self._process = subprocess.Popen(
                [sys.executable, "-c", SERVE, str(descriptor), str(os.getpid())],
                pass_fds=[descriptor],
                env=os.environ | {"PYTHONPATH": os.pathsep.join(map(os.path.abspath, sys.path))},
                stdin=subprocess.DEVNULL,
                start_new_session=True,  # a terminal's Ctrl-C is for the parent
            )

    def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """What the function returns in the worker.

        Raises:
            WorkerKilledError: the worker is gone.
            Exception: what it raised there.
        """
        try:
            self._calls.send((function, arguments))
            value, error, trace = self._calls.recv()
        except (EOFError, OSError) as gone:
            how = ending(self._process.wait())
            raise WorkerKilledError(
                f"a worker process {how}: out of memory? {self._advice}"
            ) from gone
        if error is not None:
            error.add_note(trace)
            raise error
        return value

    def kill(self) -> None:
        """End it, whatever it does."""
        self._process.kill()

    def close(self) -> None:
        """Leave nothing of it, after :meth:`kill`."""
        self._process.wait()
        self._calls.close()


def serve(descriptor: int, parent: int) -> None:
    """Be a worker: do what the parent asks for, until either ends.

    Args:
        descriptor: of the pipe.
        parent: its process id.
    """
    end_with(parent)
    leave_stops_to_the_parent()
    calls = Connection(descriptor)
    while True:
        try:
            function, arguments = calls.recv()
        except EOFError:
            return
        try:
            calls.send((function(*arguments), None, ""))
        except Exception as error:  # whatever it is, it is the caller's
            calls.send((None, _picklable(error), traceback.format_exc()))


def _picklable(error: Exception) -> Exception:
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # of many kinds, by what the error holds
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error
