# SPDX-License-Identifier: Apache-2.0
"""Worker processes: each ends with its parent, and a killed one raises a single clear error.

A worker that outlived a killed parent would keep writing without the parent's lock.
On Linux the kernel kills it (``PR_SET_PDEATHSIG``). Elsewhere a thread watches the parent. Where a
fork server sits between the two, threads of the worker and of the server watch the parent, and the
kernel kills the worker with the server (:mod:`pippin.system.workers.fork_server`).
"""

import ctypes
import multiprocessing
import multiprocessing.connection
import os
import pickle
import re
import signal
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from multiprocessing.process import BaseProcess
from types import TracebackType
from typing import TypeVar

from pippin.system.signals import ignore_signals_in_worker

T = TypeVar("T")

PR_SET_PDEATHSIG = 1
"""Constant of ``sys/prctl.h``."""
POLL_INTERVAL = 0.5
"""Seconds between polls of the parent's process id."""
EXIT_TIMEOUT = 1.0
"""Seconds to wait for a worker to exit after its connection broke."""
TORCH_WORKER_ERROR = re.compile(
    r"DataLoader worker \(pid(?:\(s\))? (?P<pid>[\d, ]+)\) "
    r"(?:is killed by signal: (?P<signal>[^.]+)|exited unexpectedly)"
)
"""Torch's message in the training process when a worker is gone."""
MEMORY_ADVICE = (
    "fewer train.workers (0 = none), a smaller train.batch_size or data.resolution take less"
)
"""Settings that reduce the memory of data-loading workers."""
SHARED_MEMORY_ERRORS = ("Bus error", "unable to write to file </torch_", "unable to mmap")
"""Torch's messages when the shared memory that holds the workers' batches is full."""

_watching_launcher = threading.Event()


class WorkerKilledError(RuntimeError):
    """The system killed a worker process, most often because memory ran out."""


def start_worker(_: int = 0) -> None:
    """Set up a worker process of ``multiprocessing``: it ignores signals meant for its parent and
    ends with the parent.

    Args:
        _: the worker id, passed by PyTorch.
    """
    end_with_parent()
    ignore_signals_in_worker()
    sys.excepthook = _print_unless_disconnected


def run_pickled_call(call: bytes) -> None:
    """Run a pickled call in a spawned process. The process is tied to its parent first, because
    the imports of the call take seconds.

    Args:
        call: pickled (function, arguments).
    """
    end_with_parent()
    function, arguments = pickle.loads(call)
    function(*arguments)


def end_with_parent() -> None:
    """Kill this process, started by ``multiprocessing``, when its parent ends for any reason; at
    once if the parent has ended already."""
    parent = multiprocessing.parent_process()
    assert parent is not None and parent.pid is not None, "not started by multiprocessing"
    if os.getppid() == parent.pid:
        end_with(parent.pid)
    else:  # a fork server started it
        _in_background(_kill_after, parent.sentinel)


def end_with(parent: int) -> None:
    """Kill this process when its parent ends; at once if the parent has ended already.

    Args:
        parent: process id of the parent.
    """
    if _kernel_kills_with_parent():
        if os.getppid() != parent:  # the parent ended before prctl was called
            _kill_this_process()
    else:
        _in_background(_kill_when_orphaned, parent)


def end_with_launcher() -> None:
    """Kill this rank when the torchrun that started it ends for any reason."""
    if "TORCHELASTIC_RUN_ID" in os.environ and not _watching_launcher.is_set():
        _watching_launcher.set()
        end_when_orphaned()


def end_when_orphaned() -> None:
    """Kill this process when its parent ends for any reason.

    Polled, because the kernel would act as soon as the parent's starting thread ends.
    """
    _in_background(_kill_when_orphaned, os.getppid())


def watch_workers(loader: Iterable[T]) -> Iterator[T]:
    """Batches of a DataLoader. Any failure caused by a dead worker raises one error type.

    Raises:
        WorkerKilledError: the system killed a worker.
    """
    before = set(multiprocessing.active_children())
    batches = iter(loader)
    workers = set(multiprocessing.active_children()) - before
    while True:
        try:
            batch = next(batches)
        except StopIteration:
            return
        except (RuntimeError, OSError, EOFError) as error:
            # Torch's own error, or a connection closed in the middle of a batch.
            if code := _failed_exit_code(workers):
                raise WorkerKilledError(
                    f"a worker process that loads data {exit_description(code)}: out of memory? "
                    f"{MEMORY_ADVICE}"
                ) from error
            raise
        yield batch


def _failed_exit_code(workers: Collection[BaseProcess]) -> int | None:
    """Exit code of a worker that failed, after waiting for workers that are exiting."""
    if not workers:
        return None
    sentinels = [worker.sentinel for worker in workers]
    ended = multiprocessing.connection.wait(sentinels, timeout=EXIT_TIMEOUT)
    for worker in workers:
        if worker.sentinel in ended:
            worker.join(EXIT_TIMEOUT)  # its pipes close before it can be reaped
    return next((worker.exitcode for worker in workers if worker.exitcode), None)


def exit_description(exit_code: int) -> str:
    """Description of a process's end from its Python exit code; negative = a signal."""
    if exit_code < 0:
        return f"was killed by {signal.Signals(-exit_code).name}"
    return f"ended with exit code {exit_code}"


def worker_failure_message(error: BaseException) -> str | None:
    """Message with advice on memory if an error comes from a killed worker; otherwise None."""
    text = str(error)
    if isinstance(error, WorkerKilledError):
        return text
    if not isinstance(error, RuntimeError):
        return None
    if any(message in text for message in SHARED_MEMORY_ERRORS):
        return (
            "a data-loading worker ran out of shared memory (/dev/shm; its size "
            f"in a container is set by --shm-size); {MEMORY_ADVICE}"
        )
    match = TORCH_WORKER_ERROR.search(text)
    if match is None:
        return None
    how = f"was killed by signal {match['signal']}" if match["signal"] else "ended early"
    return (
        f"a worker process that loads data (pid {match['pid']}) {how}: out of memory? "
        f"{MEMORY_ADVICE}"
    )


def _kernel_kills_with_parent() -> bool:
    """Request SIGKILL at the parent's end; False if the system has no such call."""
    if not sys.platform.startswith("linux"):
        return False
    return ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0) == 0


def _in_background(work: Callable[[int], None], argument: int) -> None:
    threading.Thread(target=work, args=(argument,), daemon=True).start()


def _kill_after(sentinel: int) -> None:
    multiprocessing.connection.wait([sentinel])
    _kill_this_process()


def _kill_when_orphaned(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(POLL_INTERVAL)
    _kill_this_process()


def _kill_this_process() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _print_unless_disconnected(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    """Print an error, except a closed connection: the parent reports its own failure."""
    if not issubclass(kind, ConnectionError | EOFError):
        sys.__excepthook__(kind, error, trace)
