# SPDX-License-Identifier: Apache-2.0
"""Runs of a study as Slurm jobs, which go on in another job where a time limit cuts them."""

import signal
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pippin.config import Config, ConfigError, at_least
from pippin.study.executors import Job
from pippin.system.stop import TrainingStoppedError, signals_interrupt


@dataclass(frozen=True, kw_only=True)
class SlurmConfig(Config):
    """What a run of a study asks of Slurm."""

    partition: str | None = None
    """The queue; None = the cluster's default."""
    account: str | None = None
    """Who is charged; None = the user's default."""
    qos: str | None = None
    """Quality of service; None = the cluster's default."""
    constraint: str | None = None
    """Features that the machine must have, such as a100; None = any machine."""
    extra: dict[str, str] = field(default_factory=dict)
    """Further options of sbatch by their long names, as NAME=VALUE: reservation=course
    mail-type=END."""
    minutes: int = 24 * 60
    """Time limit of one job; a run that meets it is put in the queue again and goes on."""
    warning_seconds: int = 120
    """How long before the limit a run is told (by SIGUSR2): time for a step and a checkpoint."""
    requeues: int = 100
    """How often a run may meet its time limit; then it has failed, and goes on when the study is
    run again."""
    gpus: int = 1
    """1, or 0 for a run without a card; a run of a study is one process and uses one."""
    cpus: int = 8
    """Cores; train.workers of them load data."""
    memory_gb: int = 64
    """Of the machine, not of the card."""

    def __post_init__(self) -> None:
        """Refuse jobs without time, processor or memory."""
        at_least(self, "slurm", 1, "minutes", "cpus", "memory_gb", "warning_seconds")
        at_least(self, "slurm", 0, "gpus", "requeues")
        if self.gpus > 1:
            raise ConfigError(
                f"slurm.gpus must be 0 or 1; got {self.gpus}: a run of a study is one process, "
                "which uses one card. --jobs N has N runs at once; a run that does not fit takes "
                "a smaller --train.micro-batch-size; a single training on several cards is "
                "started by torchrun (docs/reference/distributed.md)"
            )
        if self.warning_seconds >= 60 * self.minutes:
            raise ConfigError(
                f"slurm.warning_seconds must be less than slurm.minutes; got "
                f"{self.warning_seconds} s of {self.minutes} minutes"
            )


class SlurmExecutor:
    """A Slurm job for each run, by submitit.

    Args:
        folder: where submitit keeps its scripts and logs.
        config: what each job asks for.
        jobs: at once.
        cluster: slurm; submitit's "local" and "debug" are for trying it out.

    Raises:
        ConfigError: submitit is not installed, or there is no Slurm here.
    """

    def __init__(
        self, folder: Path, config: SlurmConfig, jobs: int, cluster: str = "slurm"
    ) -> None:
        try:
            import submitit
        except ImportError as error:
            raise ConfigError(
                "--executor slurm needs submitit: pip install 'pippin[cluster]'"
            ) from error
        self.jobs = jobs
        requeues = {f"{name}_max_num_timeout": config.requeues for name in ("slurm", "local")}
        try:
            self._executor = submitit.AutoExecutor(folder=folder, cluster=cluster, **requeues)
        except RuntimeError as error:
            raise ConfigError(
                f"no Slurm can be reached from here ({error}); use --executor local"
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
        """Hand a job to Slurm.

        Raises:
            Exception: Slurm refuses it.
        """
        job: Job = self._executor.submit(Resumable(), function, *arguments)
        return job


def _named(config: SlurmConfig) -> dict[str, Any]:
    """What only Slurm knows, under submitit's names."""
    names = ("partition", "account", "qos", "constraint")
    given = {f"slurm_{name}": getattr(config, name) for name in names if getattr(config, name)}
    if config.extra:
        given["slurm_additional_parameters"] = dict(config.extra)
    return given


class Resumable:
    """Calls a function that goes on where it was, when it is called again, in a Slurm job.

    submitit answers SIGUSR2, which comes before the time limit, at once: it asks for
    :meth:`checkpoint`, puts the job in the queue again and exits, in the middle of a step. So the
    signal is kept from it until the function has come to an end with a checkpoint on the disk.
    After SIGTERM, by which a job is cancelled or preempted, the checkpoint is written as well; but
    whether the job is to come again is Slurm's to say, or a cancelled one could not be got rid of.
    """

    def __call__(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """What the function returns, unless a signal comes.

        Raises:
            SystemExit: the job is in the queue again, or was cancelled.
            TrainingStoppedError, KeyboardInterrupt: Ctrl-C.
        """
        requeue = signal.getsignal(signal.SIGUSR2)
        with signals_interrupt():
            try:
                return function(*arguments)
            except (TrainingStoppedError, KeyboardInterrupt) as stopped:
                heard = _signal_of(stopped)
                if heard == signal.SIGINT:
                    raise
        if heard == signal.SIGUSR2 and callable(requeue):
            requeue(heard, None)
        raise SystemExit(128 + heard)

    def checkpoint(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """For submitit: what to call in the next job, as its ``DelayedSubmission``."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self, function, *arguments)


def _signal_of(stopped: TrainingStoppedError | KeyboardInterrupt) -> int:
    if isinstance(stopped, TrainingStoppedError):
        return stopped.signal
    return next(iter(stopped.args), int(signal.SIGINT))
