# SPDX-License-Identifier: Apache-2.0
"""Executors of the runs of a study: local processes, or jobs of a cluster.

A job is submitted, polled, and returns the result of its function. A job whose process dies fails
alone: the study goes on.
"""

import itertools
import multiprocessing
import os
import pickle
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any, Protocol, runtime_checkable

from pippin.config import ConfigError
from pippin.plugins import WorkerModules
from pippin.system.output import LINES_ONLY
from pippin.system.signals import signals_interrupt
from pippin.system.workers.processes import end_with_parent

GRACE = 120.0
"""Seconds that a cancelled job has to write its checkpoint."""
KILLED = (
    " (killed: out of memory?); to lower the memory use, set fewer --jobs, or fewer train.workers "
    "or a smaller train.micro_batch_size of its recipe; the same command then runs it again"
)
"""Advice for a job that the system killed."""


@runtime_checkable
class Job(Protocol):
    """One running function."""

    def done(self) -> bool:
        """True if it has ended, successfully or not."""

    def result(self) -> Any:
        """The return value of the function.

        Raises:
            Exception: the function raised, or its process died.
        """

    def cancel(self) -> Any:
        """Request a stop, without waiting."""


@runtime_checkable
class Executor(Protocol):
    """Starts jobs."""

    jobs: int
    """Number of concurrent jobs."""

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Job:
        """Start an importable function with picklable arguments."""


class RefusedJob:
    """A job that could not be started.

    Args:
        reason: the error message of the executor.
    """

    def __init__(self, reason: str) -> None:
        self.reason = reason

    def done(self) -> bool:
        """Always true."""
        return True

    def result(self) -> Any:
        """No result exists.

        Raises:
            RuntimeError: always, with the reason.
        """
        raise RuntimeError(f"its job could not be started: {self.reason}")

    def cancel(self) -> None:
        """Do nothing: no process runs."""


def submit_or_refuse(executor: Executor, function: Callable[..., Any], *arguments: Any) -> Job:
    """A started job, or a refused one: a full queue or a limit of the cluster fails one run and
    not the study."""
    try:
        return executor.submit(function, *arguments)
    except Exception as error:  # exceptions of executors have no common base class
        return RefusedJob(f"{type(error).__name__}: {error}")


class LocalExecutor:
    """A process for each run; each gets an equal number of the machine's cores.

    Args:
        jobs: number of concurrent processes.
    """

    def __init__(self, jobs: int) -> None:
        if jobs < 1:
            raise ConfigError(f"--jobs must be 1 or more; got {jobs}")
        self.jobs = jobs
        self.threads = max(1, (os.cpu_count() or 1) // jobs)
        self._slots: dict[int, LocalJob] = {}

    def submit(self, function: Callable[..., Any], *arguments: Any) -> "LocalJob":
        """Start a process in the first free slot; the job of slot n uses GPU n modulo the number
        of GPUs."""
        self._slots = {slot: job for slot, job in self._slots.items() if not job.done()}
        slot = next(slot for slot in itertools.count() if slot not in self._slots)
        job = LocalJob(function, arguments, self.threads, slot)
        self._slots[slot] = job
        return job


class LocalJob:
    """One worker process.

    It has its own process group, so that Ctrl-C reaches its parent only. It ends with its parent,
    so that the next call of the study finds the lock of its folder free.
    """

    def __init__(
        self, function: Callable[..., Any], arguments: tuple[Any, ...], threads: int, slot: int
    ) -> None:
        self.slot = slot
        # Fork a server that has imported torch but not initialised CUDA: workers start quickly.
        # It keeps the environment of the first job, so each job brings its own.
        start = _WorkerStart(
            environment=dict(os.environ) | {"OMP_NUM_THREADS": str(threads), LINES_ONLY: "1"},
            modules=WorkerModules.of_this_process(),
            threads=threads,
            slot=slot,
        )
        call = pickle.dumps((function, arguments))
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(
            ["pippin.system.workers.fork_server", "pippin.studies.execution"]
        )
        self._answer, answer = context.Pipe(duplex=False)
        self._process = context.Process(target=_work, args=(answer, call, start), daemon=False)
        self._process.start()
        answer.close()  # only the child holds it now, so its death raises EOFError here

    def done(self) -> bool:
        """True if a result has arrived or the process has ended."""
        return self._answer.poll() or not self._process.is_alive()

    def result(self) -> Any:
        """The return value of the function.

        Raises:
            RuntimeError: the function raised, or the process ended without a result.
        """
        try:
            succeeded, value = self._answer.recv()
        except EOFError:
            self._process.join()
            code = self._process.exitcode
            raise RuntimeError(
                f"its process ended with exit code {code}"
                + (KILLED if code == -signal.SIGKILL else "")
            ) from None
        self._process.join()
        if not succeeded:
            raise RuntimeError(value)
        return value

    def cancel(self) -> None:
        """Send SIGTERM: the worker writes a checkpoint and stops."""
        self._process.terminate()

    def end(self, deadline: float) -> None:
        """Wait for the process until ``deadline`` (monotonic clock), then kill it."""
        self._process.join(max(0.0, deadline - time.monotonic()))
        if self._process.is_alive():
            self._process.kill()
            self._process.join()


@dataclass(frozen=True, kw_only=True)
class _WorkerStart:
    """State that a worker takes over from its parent before it reads its call."""

    environment: dict[str, str]
    modules: WorkerModules
    threads: int
    slot: int


def _work(answer: Connection, call: bytes, start: _WorkerStart) -> None:
    end_with_parent()
    os.setsid()
    _set_environment(start.environment)
    import torch

    torch.set_num_threads(start.threads)
    if torch.cuda.is_available():
        torch.cuda.set_device(start.slot % torch.cuda.device_count())
    with signals_interrupt(), suppress(KeyboardInterrupt, BrokenPipeError):
        try:
            start.modules.load()
            function, arguments = pickle.loads(call)
            value = (True, function(*arguments))
        except Exception as error:  # not every exception can be pickled
            value = (False, f"{type(error).__name__}: {error}")
        answer.send(value)


def _set_environment(environment: dict[str, str]) -> None:
    for name in os.environ.keys() - environment.keys():
        del os.environ[name]
    os.environ.update(environment)
