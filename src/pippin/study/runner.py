# SPDX-License-Identifier: Apache-2.0
"""Run every arm of a study on every seed, so that it can be stopped anywhere and goes on."""

import dataclasses
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from pippin.config import ConfigError, fingerprint
from pippin.evaluation.measure import Measure
from pippin.recipes.recipe import Recipe
from pippin.run.execute import training_fingerprint
from pippin.run.folder import start_folder
from pippin.study.executors import GRACE, Executor, Job, LocalJob, submitted
from pippin.study.folder import declare, run_name
from pippin.study.measured import refuse_unmeasured, unmeasured
from pippin.study.one_run import Execute, one_run, outcome_of
from pippin.study.results import Outcome, Results, Row, append, read, repair
from pippin.study.study import Study, start_of
from pippin.system.lock import folder_lock
from pippin.training.trainer import TrainingStoppedError

Pretrain = Callable[[Recipe, Path], None]
"""Train the recipe in the folder unless it is finished there."""

PAUSE = 0.1
"""Seconds between two looks at running jobs."""


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
    tries it again. Ctrl-C stops after recording nothing false.

    Raises:
        ConfigError: the study is no fair comparison, it has runs to start from and nothing trains
            them, the folder holds another study, or another process is at work in it.
    """
    study.check()
    refuse_unmeasured(study, execute)
    if study.starts and pretrain is None:
        raise ConfigError(f"study {study.name!r} has runs to start from: give pretrain")
    folder.mkdir(parents=True, exist_ok=True)
    with folder_lock(folder):
        declare(study, folder)
        note = repair(folder / "results.jsonl")
        before = read(folder / "results.jsonl")
        for line in [*([note] if note else []), *before.problems]:
            progress(line)
        runs = Runs(study=study, folder=folder, execute=Started(study, folder, execute, pretrain))
        pending, statuses = _pending(study, before)
        go_on = _in_turn if executor is None else partial(_at_once, executor)
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


@dataclass(frozen=True)
class Started:
    """An execution that first makes the runs which a recipe starts from."""

    study: Study
    folder: Path
    execute: Execute
    pretrain: Pretrain | None

    def __call__(self, recipe: Recipe, place: Path) -> Sequence[Measure]:
        """Prepare, then execute."""
        self.prepare(recipe)
        return self.execute(recipe, place)

    def prepare(self, recipe: Recipe) -> None:
        """Train what the recipe goes on from, and what that goes on from, unless it is there."""
        name = start_of(recipe)
        if name is not None and self.pretrain is not None:
            start = dataclasses.replace(self.study.starts[name], seed=recipe.seed)
            self.prepare(start)
            self.pretrain(start, start_folder(self.folder, name, recipe.seed))

    def prepare_all(self, recipes: Sequence[Recipe]) -> None:
        """The same for several, one after the other."""
        for recipe in recipes:
            self.prepare(recipe)


@dataclass(frozen=True, kw_only=True)
class Runs:
    """What all runs of a study share."""

    study: Study
    folder: Path
    execute: Started

    def record(self, rows: Sequence[Row], outcome: Outcome) -> None:
        """Append a run's numbers and how it ended, in one write."""
        append(self.folder / "results.jsonl", [*rows, outcome])


@dataclass(frozen=True, kw_only=True)
class Pending:
    """A run that is still to be made."""

    number: str
    """``run 3 of 20: ARM-seed0``"""
    arm: str
    recipe: Recipe

    @property
    def name(self) -> str:
        """Of its folder."""
        return run_name(self.arm, self.recipe.seed)


def _pending(study: Study, before: Results) -> tuple[list[Pending], dict[str, str]]:
    """What is to be run, and the statuses of the others."""
    arms = study.arms()
    runs = [(arm, seed) for seed in study.seeds for arm in arms]
    pending, statuses = [], {}
    for place, (arm, seed) in enumerate(runs, start=1):
        recipe = dataclasses.replace(arms[arm], seed=seed)
        if before.done(arm, seed, fingerprint(recipe)):
            statuses[run_name(arm, seed)] = "skipped"
        else:
            number = f"run {place} of {len(runs)}: {run_name(arm, seed)}"
            pending.append(Pending(number=number, arm=arm, recipe=recipe))
    return pending, statuses


Ended = Iterator[tuple[str, Outcome]]


def _in_turn(runs: Runs, pending: Sequence[Pending], progress: Callable[[str], None]) -> Ended:
    """One run after the other, in this process."""
    for one in pending:
        progress(one.number)
        rows, outcome = one_run(runs.study, runs.folder, one.arm, one.recipe, runs.execute)
        runs.record(rows, outcome)
        yield one.name, outcome


def _at_once(
    executor: Executor,
    runs: Runs,
    pending: Sequence[Pending],
    progress: Callable[[str], None],
) -> Ended:
    """Several runs at once. Those of one seed wait for its starts; those that train alike follow
    one another, so that the later ones take the first one's weights."""
    queues: dict[object, deque[Pending]] = {}
    for one in pending:
        queues.setdefault((one.recipe.seed, training_fingerprint(one.recipe)), deque()).append(one)
    starting = _starts(runs, pending) if runs.study.starts else {}
    running: dict[object, tuple[Job, Pending | None]] = {}
    try:
        while queues or running:
            for seed in list(starting):
                if len(running) < executor.jobs and seed not in running:
                    progress(f"what the runs of seed {seed} start from")
                    recipes = starting[seed]
                    running[seed] = submitted(executor, runs.execute.prepare_all, recipes), None
            for key in list(queues):
                free = len(running) < executor.jobs and key not in running
                if free and key[0] not in starting:  # type: ignore[index]
                    one = queues[key][0]
                    progress(one.number)
                    job = submitted(
                        executor,
                        one_run,
                        runs.study,
                        runs.folder,
                        one.arm,
                        one.recipe,
                        runs.execute,
                    )
                    running[key] = job, one
            time.sleep(PAUSE)
            for key in [key for key, (job, _) in running.items() if job.done()]:
                job, finished = running.pop(key)
                if finished is None:
                    del starting[int(str(key))]
                    wrong = _trouble(job)
                    for waiting in [k for k in queues if k[0] == key and wrong]:  # type: ignore[index]
                        for one in queues.pop(waiting):
                            outcome = outcome_of(one.arm, one.recipe, "failed", wrong, 0.0)
                            runs.record([], outcome)
                            yield one.name, outcome
                    continue
                rows, outcome = _result(job, finished)
                runs.record(rows, outcome)
                queues[key].popleft()
                if not queues[key]:
                    del queues[key]
                yield finished.name, outcome
    finally:
        _end([job for job, _ in running.values()])


def _end(jobs: Sequence[Job]) -> None:
    """Ask all to stop before any is waited for."""
    for job in jobs:
        job.cancel()
    deadline = time.monotonic() + GRACE
    for job in jobs:
        if isinstance(job, LocalJob):
            job.end(deadline)


def _starts(runs: Runs, pending: Sequence[Pending]) -> dict[int, list[Recipe]]:
    """Seed -> the recipes whose starts have to be there."""
    found: dict[int, list[Recipe]] = {}
    for one in pending:
        if start_of(one.recipe) is not None:
            found.setdefault(one.recipe.seed, []).append(one.recipe)
    return found


def _trouble(job: Job) -> str:
    """What went wrong in a job; empty where nothing did."""
    try:
        job.result()
    except Exception as error:  # whatever it is, the runs that wait for it cannot be made
        return f"what it starts from could not be trained: {error}"
    return ""


def _result(job: Job, one: Pending) -> tuple[list[Row], Outcome]:
    """Of a job; one that died is a failed run."""
    try:
        rows, outcome = job.result()
        return rows, outcome
    except Exception as error:  # whatever happens to one job must not cost the others
        return [], outcome_of(one.arm, one.recipe, "failed", str(error), 0.0)
