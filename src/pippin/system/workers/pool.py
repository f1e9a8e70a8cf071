# SPDX-License-Identifier: Apache-2.0
"""Pools of worker processes, and calls in daemon threads.

A pool ends its running calls at once on a signal to the parent. The standard library's executors
wait for them, however slow their reads, and start processes that run the main script again. These
are plain processes of the same Python, each with its own pipe.

A thread that waits for a slow disk or store cannot be killed. The program waits at exit for
threads of the standard library's executors, but not for daemon threads.
"""

import os
import pickle
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from queue import SimpleQueue
from typing import Any, TypeVar

from pippin.system.signals import ignore_signals_in_worker
from pippin.system.workers.processes import WorkerKilledError, end_with, exit_description

SERVE = "import sys; from pippin.system.workers.pool import serve; serve(*map(int, sys.argv[1:]))"

Submit = Callable[..., "Future[Any]"]
"""(importable function, picklable arguments) -> future of its result."""


@contextmanager
def worker_pool(processes: int, advice: str) -> Iterator[Submit]:
    """Pool of workers; none is left when the body ends.

    After an error, running calls finish; after a signal, the workers are killed. They are also
    killed with their parent.

    Args:
        processes: number of workers.
        advice: how to reduce memory, for the message.

    Raises:
        WorkerKilledError: from a future, if the system killed the worker.
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
    """One worker process.

    Args:
        advice: what to do if the system kills it.
    """

    def __init__(self, advice: str) -> None:
        self._advice = advice
        self._calls, worker_end = Pipe()
        with worker_end:
            descriptor = worker_end.fileno()
            self._process = subprocess.Popen(
                [sys.executable, "-c", SERVE, str(descriptor), str(os.getpid())],
                pass_fds=[descriptor],
                env=os.environ | {"PYTHONPATH": os.pathsep.join(map(os.path.abspath, sys.path))},
                stdin=subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C of a terminal goes to the parent only
            )

    def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Call the function in the worker and return its result.

        Raises:
            WorkerKilledError: the worker was killed.
            Exception: raised by the function.
        """
        try:
            self._calls.send((function, arguments))
            value, error, trace = self._calls.recv()
        except (EOFError, OSError) as gone:
            how = exit_description(self._process.wait())
            raise WorkerKilledError(
                f"a worker process {how}: out of memory? {self._advice}"
            ) from gone
        if error is not None:
            error.add_note(trace)
            raise error
        return value

    def kill(self) -> None:
        """Kill the process."""
        self._process.kill()

    def close(self) -> None:
        """Reap the process and close its pipe, after :meth:`kill`."""
        self._process.wait()
        self._calls.close()


def serve(descriptor: int, parent: int) -> None:
    """Main loop of a worker: run the parent's calls until either ends.

    Args:
        descriptor: file descriptor of the pipe.
        parent: process id of the parent.
    """
    end_with(parent)
    ignore_signals_in_worker()
    calls = Connection(descriptor)
    while True:
        try:
            function, arguments = calls.recv()
        except EOFError:
            return
        try:
            calls.send((function(*arguments), None, ""))
        except Exception as error:  # re-raised in the caller
            calls.send((None, _picklable(error), traceback.format_exc()))


def _picklable(error: Exception) -> Exception:
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # the type depends on what the error holds
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error


Argument = TypeVar("Argument")
Result = TypeVar("Result")


def map_in_threads(
    function: Callable[[Argument], Result], arguments: Iterable[Argument], threads: int
) -> Iterator[Result]:
    """Results in the order of the arguments. Stopping the iteration waits for no call.

    Args:
        function: called once per argument.
        arguments: one per call.
        threads: number of concurrent calls.

    Raises:
        BaseException: from the first call, in order, that raised one.
    """
    calls: list[tuple[Future[Result], Argument]] = [(Future(), argument) for argument in arguments]
    pending, stopped = iter(calls), threading.Event()
    lock = threading.Lock()

    def work() -> None:
        while not stopped.is_set():
            with lock:
                call = next(pending, None)
            if call is None:
                return
            result, argument = call
            try:
                result.set_result(function(argument))
            except BaseException as error:  # raised when the result is read
                result.set_exception(error)

    for _ in range(min(threads, len(calls))):
        threading.Thread(target=work, daemon=True).start()
    try:
        for result, _ in calls:
            yield result.result()
    finally:
        stopped.set()
