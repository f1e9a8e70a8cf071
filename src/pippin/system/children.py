# SPDX-License-Identifier: Apache-2.0
"""Worker processes: they end with their parent, and one that was killed is one message.

A worker that outlived a killed parent would write on without the parent's lock, and hold its own.
On Linux the kernel kills it (``PR_SET_PDEATHSIG``). Elsewhere, or where a fork server stands
between the two, a thread watches the parent.
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

from pippin.system.stop import leave_stops_to_the_parent

T = TypeVar("T")

PR_SET_PDEATHSIG = 1
"""Of ``sys/prctl.h``."""
POLL = 0.5
"""Seconds between two looks at a parent that nothing else tells of."""
DYING = 1.0
"""Seconds in which a worker whose connection broke has ended."""
OF_TORCH = re.compile(
    r"DataLoader worker \(pid(?:\(s\))? (?P<pid>[\d, ]+)\) "
    r"(?:is killed by signal: (?P<signal>[^.]+)|exited unexpectedly)"
)
"""What torch says in the training process of a worker that is gone."""
LESS_MEMORY = (
    "fewer train.workers (0 = none), a smaller train.batch_size or data.resolution take less"
)
"""What lowers the need of memory of workers that load data."""
SHARED_MEMORY = ("Bus error", "unable to write to file </torch_", "unable to mmap")
"""What torch says where the memory that workers hand batches over in is full."""

_watching_launcher = threading.Event()


class WorkerKilledError(RuntimeError):
    """The system killed a worker process, most often for want of memory."""


def start_worker(_: int = 0) -> None:
    """Begin a worker process of ``multiprocessing``: it leaves signals to its parent and ends with
    it.

    Args:
        _: the worker's number, which PyTorch gives.
    """
    end_with_parent()
    leave_stops_to_the_parent()
    sys.excepthook = _without_broken_connections


def call_in_child(call: bytes) -> None:
    """What a spawned process does: it ends with its parent from the first moment on, and only then
    imports what the call needs, which takes seconds.

    Args:
        call: pickled (function, arguments).
    """
    end_with_parent()
    function, arguments = pickle.loads(call)
    function(*arguments)


def end_with_parent() -> None:
    """Let this process, which ``multiprocessing`` started, be killed when its parent ends, however
    that ends; at once where it has ended already."""
    parent = multiprocessing.parent_process()
    assert parent is not None and parent.pid is not None, "not started by multiprocessing"
    if os.getppid() == parent.pid:
        end_with(parent.pid)
    else:  # a fork server started it
        _in_background(_kill_after, parent.sentinel)


def end_with(parent: int) -> None:
    """Let this process be killed when the one that started it ends; at once where it has ended.

    Args:
        parent: its process id.
    """
    if _kernel_kills_with_parent():
        if os.getppid() != parent:  # it ended before the kernel was asked
            _kill_this_process()
    else:
        _in_background(_kill_when_orphaned, parent)


def end_with_launcher() -> None:
    """Let this rank be killed when the torchrun that started it ends, however that ends.

    Not by the kernel, which acts when the launcher's thread ends that started the rank.
    """
    if "TORCHELASTIC_RUN_ID" in os.environ and not _watching_launcher.is_set():
        _watching_launcher.set()
        _in_background(_kill_when_orphaned, os.getppid())


def watch_workers(loader: Iterable[T]) -> Iterator[T]:
    """Batches of a DataLoader; whatever it meets where a worker is gone is one error.

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
            # Torch's own error, or the end of a connection in the middle of a batch.
            if code := _exit_code_of_one(workers):
                raise WorkerKilledError(
                    f"a worker process that loads data {ending(code)}: out of memory? "
                    f"{LESS_MEMORY}"
                ) from error
            raise
        yield batch


def _exit_code_of_one(workers: Collection[BaseProcess]) -> int | None:
    """Of a worker that did not end well; one that is ending is waited for."""
    if not workers:
        return None
    ended = multiprocessing.connection.wait([one.sentinel for one in workers], timeout=DYING)
    for one in workers:
        if one.sentinel in ended:
            one.join(DYING)  # its pipes close before it can be waited for
    return next((one.exitcode for one in workers if one.exitcode), None)


def ending(exit_code: int) -> str:
    """How a process ended, by its exit code in Python: negative = a signal."""
    if exit_code < 0:
        return f"was killed by {signal.Signals(-exit_code).name}"
    return f"ended with exit code {exit_code}"


def killed_worker(error: BaseException) -> str | None:
    """What happened and what takes less memory, where an error is that of a worker that was
    killed."""
    text = str(error)
    if isinstance(error, WorkerKilledError):
        return text
    if not isinstance(error, RuntimeError):
        return None
    if any(one in text for one in SHARED_MEMORY):
        return (
            "a worker process that loads data found no room in shared memory (/dev/shm; its size "
            f"in a container is --shm-size); {LESS_MEMORY}"
        )
    found = OF_TORCH.search(text)
    if found is None:
        return None
    how = f"was killed by signal {found['signal']}" if found["signal"] else "ended early"
    return (
        f"a worker process that loads data (pid {found['pid']}) {how}: out of memory? "
        f"{LESS_MEMORY}"
    )


def _kernel_kills_with_parent() -> bool:
    """Ask for SIGKILL at the parent's end; False where the system has no such call."""
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
        time.sleep(POLL)
    _kill_this_process()


def _kill_this_process() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _without_broken_connections(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    """Print an error, but not that the parent no longer listens: it says itself what happened."""
    if not issubclass(kind, ConnectionError | EOFError):
        sys.__excepthook__(kind, error, trace)
