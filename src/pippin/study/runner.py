# SPDX-License-Identifier: Apache-2.0
"""Run every arm of a study on every seed; a stopped study can be resumed."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from pippin.config import ConfigError
from pippin.study.declared_metrics import refuse_unmeasured, unmeasured
from pippin.study.executors import Executor
from pippin.study.folder import declare
from pippin.study.pretraining import Pretrain, StudyStarts, WithPretraining
from pippin.study.results import read, repair
from pippin.study.run_execution import Execute, execute_run
from pippin.study.runs import PendingRun, RunContext, RunOutcomes, pending_runs
from pippin.study.scheduler import run_concurrently
from pippin.study.study import Study
from pippin.system.files import remove_temporary_files
from pippin.system.fsync import make_folder
from pippin.system.lock import folder_lock
from pippin.system.signals import TrainingStoppedError, signals_interrupt


@dataclass(frozen=True, kw_only=True)
class Summary:
    """The result of one call of :func:`run_study`."""

    statuses: dict[str, str]
    """Run's folder name -> "finished", "diverged", "failed", or "skipped" if an earlier call had
    finished it."""
    interrupted: bool


def run_study(
    study: Study,
    folder: Path,
    execute: Execute,
    progress: Callable[[str], None],
    pretrain: Pretrain | None = None,
    executor: Executor | None = None,
) -> Summary:
    """Run the unfinished runs of a study, seed by seed, so that pairs complete together.

    A run that raises is recorded as failed with its message, and the other runs go on; the next
    call runs it again. A run that diverges, or whose start diverges, is a result and is not run
    again. Ctrl-C stops the study, as do SIGTERM and SIGUSR2 unless the program handles them; runs
    of other processes write a checkpoint first. The next call resumes it.

    Args:
        study: the study.
        folder: the study's folder.
        execute: trains and evaluates one run.
        progress: called with each message.
        pretrain: trains a start; required by studies with starts only.
        executor: runs several runs concurrently; those with the same training still run one after
            the other. None = one run at a time in this process.

    Raises:
        ConfigError: the study is not a fair comparison, it has starts but ``pretrain`` is None,
            the folder holds another study, or another process uses it.
    """
    study.check()
    refuse_unmeasured(study, execute)
    if study.starts and pretrain is None:
        raise ConfigError(f"study {study.name!r} has starts (pre-training runs): give pretrain")
    make_folder(folder)
    with folder_lock(folder), signals_interrupt(keep_handlers=True):
        remove_temporary_files(folder)
        declare(study, folder)
        note = repair(folder / "results.jsonl")
        before = read(folder / "results.jsonl")
        for line in [*([note] if note else []), *before.problems]:
            progress(line)
        starts = StudyStarts(study, folder, pretrain)
        runs = RunContext(study=study, folder=folder, execute=execute, starts=starts)
        pending, statuses = pending_runs(study, before)
        run_all = _run_sequentially if executor is None else partial(run_concurrently, executor)
        interrupted = False
        try:
            for name, outcome in run_all(runs, pending, progress):
                statuses[name] = outcome.status
                if outcome.message:
                    progress(f"{name} {outcome.status}: {outcome.message}; the other runs go on")
                if outcome.status == "finished":
                    absent = unmeasured(study, name, read(folder / "results.jsonl"))
                    if absent:
                        progress(absent)
        except (KeyboardInterrupt, TrainingStoppedError):
            progress("stopped; finished runs are kept")
            interrupted = True
        return Summary(statuses=statuses, interrupted=interrupted)


def _run_sequentially(
    runs: RunContext, pending: Sequence[PendingRun], progress: Callable[[str], None]
) -> RunOutcomes:
    """Run one run after the other in this process; the time of a start counts for the first run
    that requires it."""
    execute = WithPretraining(runs.starts, runs.execute)
    for run in pending:
        progress(run.number)
        rows, outcome = execute_run(runs.study, runs.folder, run.arm, run.recipe, execute)
        runs.record(rows, outcome)
        yield run.name, outcome
