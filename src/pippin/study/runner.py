# SPDX-License-Identifier: Apache-2.0
"""Run every arm of a study on every seed, so that it can be stopped anywhere and goes on."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from pippin.config import ConfigError
from pippin.study.at_once import at_once
from pippin.study.executors import Executor
from pippin.study.folder import declare
from pippin.study.measured import refuse_unmeasured, unmeasured
from pippin.study.one_run import Execute, one_run
from pippin.study.pretraining import Pretrain, Started, Starts
from pippin.study.results import read, repair
from pippin.study.runs import Ended, Pending, Runs, pending_runs
from pippin.study.study import Study
from pippin.system.files import remove_staged
from pippin.system.flush import make_folder
from pippin.system.lock import folder_lock
from pippin.training.trainer import TrainingStoppedError


@dataclass(frozen=True, kw_only=True)
class Summary:
    """What one call of :func:`run_study` did."""

    statuses: dict[str, str]
    """Run's folder name -> "finished", "diverged", "failed", or "skipped" where an earlier call
    had finished it."""
    interrupted: bool


def run_study(
    study: Study,
    folder: Path,
    execute: Execute,
    progress: Callable[[str], None],
    pretrain: Pretrain | None = None,
    executor: Executor | None = None,
) -> Summary:
    """Run what of the study has not finished yet, seed by seed, so that pairs complete together.

    ``pretrain`` makes the runs that arms start from; only a study that has such needs it. With an
    executor several runs go on at once; runs that train alike still follow one another.

    A run that raises is recorded as failed with its message and the rest goes on; the next call
    tries it again. One that diverges, or whose start does, is a result and is not tried again.
    Ctrl-C stops after recording nothing false.

    Raises:
        ConfigError: the study is no fair comparison, it has runs to start from and nothing trains
            them, the folder holds another study, or another process is at work in it.
    """
    study.check()
    refuse_unmeasured(study, execute)
    if study.starts and pretrain is None:
        raise ConfigError(f"study {study.name!r} has runs to start from: give pretrain")
    make_folder(folder)
    with folder_lock(folder):
        remove_staged(folder)
        declare(study, folder)
        note = repair(folder / "results.jsonl")
        before = read(folder / "results.jsonl")
        for line in [*([note] if note else []), *before.problems]:
            progress(line)
        starts = Starts(study, folder, pretrain)
        runs = Runs(study=study, folder=folder, execute=execute, starts=starts)
        pending, statuses = pending_runs(study, before)
        go_on = _in_turn if executor is None else partial(at_once, executor)
        interrupted = False
        try:
            for name, outcome in go_on(runs, pending, progress):
                statuses[name] = outcome.status
                if outcome.message:
                    progress(f"{name} {outcome.status}: {outcome.message}; the other runs go on")
                if outcome.status == "finished":
                    absent = unmeasured(study, name, read(folder / "results.jsonl"))
                    if absent:
                        progress(absent)
        except (KeyboardInterrupt, TrainingStoppedError):
            progress("stopped; the same command goes on from here")
            interrupted = True
        return Summary(statuses=statuses, interrupted=interrupted)


def _in_turn(runs: Runs, pending: Sequence[Pending], progress: Callable[[str], None]) -> Ended:
    """One run after the other, in this process; the time of a start is charged to the first run
    that needs it."""
    execute = Started(runs.starts, runs.execute)
    for one in pending:
        progress(one.number)
        rows, outcome = one_run(runs.study, runs.folder, one.arm, one.recipe, execute)
        runs.record(rows, outcome)
        yield one.name, outcome
