# SPDX-License-Identifier: Apache-2.0
"""Runs of a study as Slurm jobs, which resume in a new job after a time limit."""

import signal
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pippin.config import Config, ConfigError
from pippin.plugins import WorkerModules
from pippin.settings.bounds import at_least
from pippin.studies.executors import Job
from pippin.system.installation import pip_command
from pippin.system.signals import TrainingStoppedError, signals_interrupt


@dataclass(frozen=True, kw_only=True)
class SlurmConfig(Config):
    """Resources and options of the Slurm job of each run."""

    partition: str | None = None
    """The queue; None = the cluster's default."""
    account: str | None = None
    """The charged account; None = the user's default."""
    qos: str | None = None
    """Quality of service; None = the cluster's default."""
    constraint: str | None = None
    """Required features of the node, such as a100; None = any node."""
    extra: dict[str, str] = field(default_factory=dict, hash=False)  # a dict has no hash
    """Further options of sbatch by their long names, as NAME=VALUE: reservation=course
    mail-type=END."""
    minutes: int = 24 * 60
    """Time limit of one job; a run that reaches it is requeued and resumes."""
    warning_seconds: int = 120
    """Seconds before the time limit at which a run gets SIGUSR2, for a step and a checkpoint."""
    requeues: int = 100
    """Largest number of requeues of a run; then it has failed, and resumes when the study is run
    again."""
    gpus: int = 1
    """GPUs: 1, or 0 for a run on CPU; a run of a study is one process and uses one GPU."""
    cpus: int = 8
    """CPU cores; train.workers of them load data."""
    memory_gb: int = 64
    """Memory of the node (not of the GPU) in GB."""

    def __post_init__(self) -> None:
        """Refuse jobs without time, CPU cores or memory, and with more than one GPU."""
        at_least(self, "slurm", 1, "minutes", "cpus", "memory_gb", "warning_seconds")
        at_least(self, "slurm", 0, "gpus", "requeues")
        if self.gpus > 1:
            raise ConfigError(
                f"slurm.gpus must be 0 or 1; got {self.gpus}: a run of a study is one process, "
                "which uses one GPU. --jobs N runs N runs concurrently; a run that does not fit "
                "needs a smaller --train.micro-batch-size; start a single training on several "
                "GPUs by torchrun (docs/reference/distributed.md)"
            )
        if self.warning_seconds >= 60 * self.minutes:
            raise ConfigError(
                f"slurm.warning_seconds must be less than slurm.minutes; got "
                f"{self.warning_seconds} s of {self.minutes} minutes"
            )


class SlurmExecutor:
    """A Slurm job for each run, by submitit.

    Args:
        folder: folder of submitit's scripts and logs.
        config: resources and options of each job.
        jobs: number of concurrent jobs.
        cluster: "slurm"; submitit's "local" and "debug" are for tests.

    Raises:
        ConfigError: submitit is not installed, or Slurm is not available.
    """

    def __init__(
        self, folder: Path, config: SlurmConfig, jobs: int, cluster: str = "slurm"
    ) -> None:
        try:
            import submitit
        except ImportError as error:
            raise ConfigError(
                f"--executor slurm needs submitit: {pip_command('cluster')}"
            ) from error
        self.jobs, self.config = jobs, config
        requeues = {f"{name}_max_num_timeout": config.requeues for name in ("slurm", "local")}
        try:
            self._executor = submitit.AutoExecutor(folder=folder, cluster=cluster, **requeues)
        except RuntimeError as error:
            raise ConfigError(
                f"Slurm is not available on this machine ({error}); use --executor local"
            ) from error
        self._executor.update_parameters(
            timeout_min=config.minutes,
            cpus_per_task=config.cpus,
            mem_gb=config.memory_gb,
            gpus_per_node=config.gpus,
            slurm_signal_delay_s=config.warning_seconds,
            **_named(config),
        )

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Job:
        """Submit a job to Slurm.

        Raises:
            Exception: Slurm refuses it.
        """
        job: Job = self._executor.submit(
            Resumable(WorkerModules.of_this_process()), function, *arguments
        )
        return job


def _named(config: SlurmConfig) -> dict[str, Any]:
    """Slurm-specific options under submitit's names."""
    names = ("partition", "account", "qos", "constraint")
    options = {f"slurm_{name}": getattr(config, name) for name in names if getattr(config, name)}
    if config.extra:
        options["slurm_additional_parameters"] = dict(config.extra)
    return options


class Resumable:
    """Calls a resumable function in a Slurm job.

    Slurm sends SIGUSR2 before the time limit. submitit's handler would call :meth:`checkpoint`,
    requeue the job and exit at once, in the middle of a step. This class therefore delays the
    handler until the function has stopped and its checkpoint is on disk. SIGTERM, by which a job
    is cancelled or preempted, stops the function in the same way, but Slurm decides about the
    requeue: otherwise a cancelled job would come back.

    Args:
        modules: imported before the function is called.
    """

    modules = WorkerModules()
    """Those of a job that an earlier version submitted."""

    def __init__(self, modules: WorkerModules = modules) -> None:
        self.modules = modules

    def __call__(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """The return value of the function.

        Raises:
            SystemExit: the job was requeued or cancelled.
            TrainingStoppedError, KeyboardInterrupt: Ctrl-C.
        """
        requeue = signal.getsignal(signal.SIGUSR2)
        with signals_interrupt():
            try:
                self.modules.load()
                return function(*arguments)
            except (TrainingStoppedError, KeyboardInterrupt) as stopped:
                received = _signal_of(stopped)
                if received == signal.SIGINT:
                    raise
        if received == signal.SIGUSR2 and callable(requeue):
            requeue(received, None)
        raise SystemExit(128 + received)

    def checkpoint(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """The call of the next job, as submitit's ``DelayedSubmission``."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self, function, *arguments)


def _signal_of(stopped: TrainingStoppedError | KeyboardInterrupt) -> int:
    if isinstance(stopped, TrainingStoppedError):
        return stopped.signal
    return next(iter(stopped.args), int(signal.SIGINT))
