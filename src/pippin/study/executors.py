# SPDX-License-Identifier: Apache-2.0
"""Where the runs of a study are executed: in processes of this machine, or elsewhere.

A job is started, asked whether it is done, and gives what its function returned; what dies does
not take the study with it.
"""

import itertools
import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any, Protocol, runtime_checkable

from pippin.config import ConfigError
from pippin.system.children import end_with_parent
from pippin.system.stop import signals_interrupt

GRACE = 120.0
"""Seconds that a stopped job has to write its checkpoint."""
KILLED = (
    " (killed: out of memory?); fewer --jobs, or fewer train.workers or a smaller "
    "train.micro_batch_size of its recipe, take less, and the same command tries it again"
)
"""What to do about a job that the system killed."""


@runtime_checkable
class Job(Protocol):
    """One running function."""

    def done(self) -> bool:
        """Whether it has ended, well or not."""

    def result(self) -> Any:
        """What it returned.

        Raises:
            Exception: it raised, or its process died.
        """

    def cancel(self) -> Any:
        """Ask it to stop, without waiting."""


@runtime_checkable
class Executor(Protocol):
    """Starts jobs."""

    jobs: int
    """How many run at once."""

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Job:
        """Start a function that can be imported, with arguments that can be pickled."""


class RefusedJob:
    """A job that could not be started.

    Args:
        reason: why.
    """

    def __init__(self, reason: str) -> None:
        self.reason = reason

    def done(self) -> bool:
        """It is, before it began."""
        return True

    def result(self) -> Any:
        """There is none.

        Raises:
            RuntimeError: always; it says why.
        """
        raise RuntimeError(f"its job could not be started: {self.reason}")

    def cancel(self) -> None:
        """There is nothing to stop."""


def submitted(executor: Executor, function: Callable[..., Any], *arguments: Any) -> Job:
    """A started job, or a refused one: a full queue or a limit of the cluster costs one run and
    not the study."""
    try:
        return executor.submit(function, *arguments)
    except Exception as error:  # of whatever kind: those of executors have no common one
        return RefusedJob(f"{type(error).__name__}: {error}")


class LocalExecutor:
    """A process for each run; the machine's cores are shared equally.

    Args:
        jobs: processes at once.
    """

    def __init__(self, jobs: int) -> None:
        if jobs < 1:
            raise ConfigError(f"--jobs must be 1 or more; got {jobs}")
        self.jobs = jobs
        self.threads = max(1, (os.cpu_count() or 1) // jobs)
        self._slots: dict[int, LocalJob] = {}

    def submit(self, function: Callable[..., Any], *arguments: Any) -> "LocalJob":
        """Start a process in the first slot that no running job holds; on a machine with cards
        slot n has card n, over again from the first one where there are fewer."""
        self._slots = {slot: job for slot, job in self._slots.items() if not job.done()}
        slot = next(slot for slot in itertools.count() if slot not in self._slots)
        job = LocalJob(function, arguments, self.threads, slot)
        self._slots[slot] = job
        return job


class LocalJob:
    """One process; it has a process group of its own, so that Ctrl-C reaches its parent only, and
    it ends with its parent, so that the next call of the study finds its folder free."""

    def __init__(
        self, function: Callable[..., Any], arguments: tuple[Any, ...], threads: int, slot: int
    ) -> None:
        self.slot = slot
        # A server that has imported torch and touched no card is forked: each start is quick.
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["pippin.run.execute"])
        self._answer, answer = context.Pipe(duplex=False)
        self._process = context.Process(
            target=_work, args=(answer, function, arguments, threads, slot), daemon=False
        )
        self._process.start()
        answer.close()  # only the child holds it now: its death is seen as an end

    def done(self) -> bool:
        """An answer is there, or the process is gone."""
        return self._answer.poll() or not self._process.is_alive()

    def result(self) -> Any:
        """The function's, or an error that says how the process ended."""
        try:
            found, value = self._answer.recv()
        except EOFError:
            self._process.join()
            code = self._process.exitcode
            raise RuntimeError(
                f"its process ended with exit code {code}"
                + (KILLED if code == -signal.SIGKILL else "")
            ) from None
        self._process.join()
        if not found:
            raise RuntimeError(value)
        return value

    def cancel(self) -> None:
        """SIGTERM: it writes a checkpoint."""
        self._process.terminate()

    def end(self, deadline: float) -> None:
        """Wait until a time of the monotonic clock, then kill."""
        self._process.join(max(0.0, deadline - time.monotonic()))
        if self._process.is_alive():
            self._process.kill()
            self._process.join()


def _work(
    answer: Connection,
    function: Callable[..., Any],
    arguments: tuple[Any, ...],
    threads: int,
    slot: int,
) -> None:
    end_with_parent()
    os.setsid()
    os.environ["OMP_NUM_THREADS"] = str(threads)
    import torch

    torch.set_num_threads(threads)
    if torch.cuda.is_available():
        torch.cuda.set_device(slot % torch.cuda.device_count())
    with signals_interrupt(), suppress(KeyboardInterrupt, BrokenPipeError):
        try:
            value = (True, function(*arguments))
        except Exception as error:  # not every exception can be pickled
            value = (False, f"{type(error).__name__}: {error}")
        answer.send(value)
