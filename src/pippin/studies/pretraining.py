# SPDX-License-Identifier: Apache-2.0
"""Pre-training runs and pending runs of a study, and the context that they share."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from pippin.config import fingerprint
from pippin.evaluation.measure import Measure
from pippin.recipes.recipe import Recipe
from pippin.runs.folder import STUDY_RUN_PREFIX, start_folder
from pippin.studies.execution import Execute, failure_status
from pippin.studies.fairness import start_of
from pippin.studies.results import Outcome, Results, Row, append
from pippin.studies.study import Study
from pippin.studies.study_folder import run_name
from pippin.system.output import named_lines
from pippin.system.signals import TrainingDivergedError, TrainingStoppedError

Pretrain = Callable[[Recipe, Path], None]
"""Train the recipe in the folder unless its training is finished there."""


class Start(NamedTuple):
    """One pre-training run: arms, or other starts, are initialised from its weights."""

    name: str
    seed: int

    def __str__(self) -> str:
        """Its name in recipes, with the seed."""
        return f"{STUDY_RUN_PREFIX}{self.name} of seed {self.seed}"


@dataclass(frozen=True, kw_only=True)
class Failure:
    """The reason why a start cannot be used, and with it no run that depends on it."""

    status: Literal["failed", "diverged"]
    message: str

    def propagate(self, start: Start) -> "Failure":
        """The failure of a run that depends on this start."""
        reason = "diverged" if self.status == "diverged" else "could not be trained"
        return Failure(
            status=self.status, message=f"{start}, which it starts from, {reason}: {self.message}"
        )


@dataclass(frozen=True)
class StudyStarts:
    """The starts of a study, in its folder."""

    study: Study
    folder: Path
    pretrain: Pretrain | None

    def required_by(self, recipe: Recipe) -> Start | None:
        """The start whose weights initialise a recipe; None if there is none."""
        name = start_of(recipe)
        return None if name is None else Start(name, recipe.seed)

    def parent_of(self, start: Start) -> Start | None:
        """The start whose weights initialise another start; None if there is none."""
        return self.required_by(self.recipe(start))

    def recipe(self, start: Start) -> Recipe:
        """The recipe of a start, with its seed."""
        return dataclasses.replace(self.study.starts[start.name], seed=start.seed)

    def train(self, start: Start) -> Failure | None:
        """Train a start unless it is finished; its parent must be finished.

        Returns:
            The failure; None = the start is finished.

        Raises:
            TrainingStoppedError, KeyboardInterrupt: a signal stopped the training.
        """
        assert self.pretrain is not None
        try:
            folder = start_folder(self.folder, start.name, start.seed)
            with named_lines(folder.name):
                self.pretrain(self.recipe(start), folder)
        except TrainingStoppedError:
            raise
        except Exception as error:  # runs that do not depend on this start go on
            status, message = failure_status(error)
            return Failure(status=status, message=message)
        return None


class WithPretraining:
    """An execution that trains the required starts first. It tries a failed start only once.

    Args:
        starts: the starts of the study.
        execute: the execution of the run itself.
    """

    def __init__(self, starts: StudyStarts, execute: Execute) -> None:
        self.starts, self.execute = starts, execute
        self._failures: dict[Start, Failure | None] = {}

    def __call__(self, recipe: Recipe, folder: Path) -> Sequence[Measure]:
        """Train the required starts, then execute.

        Raises:
            TrainingDivergedError: the start diverged.
            RuntimeError: it could not be trained.
        """
        start = self.starts.required_by(recipe)
        failure = self._failure(start) if start else None
        if start and failure:
            message = failure.propagate(start).message
            kind = TrainingDivergedError if failure.status == "diverged" else RuntimeError
            raise kind(message)
        return self.execute(recipe, folder)

    def _failure(self, start: Start) -> Failure | None:
        if start not in self._failures:
            parent = self.starts.parent_of(start)
            parent_failure = self._failure(parent) if parent else None
            self._failures[start] = (
                parent_failure.propagate(parent)
                if parent and parent_failure
                else self.starts.train(start)
            )
        return self._failures[start]


RunOutcomes = Iterator[tuple[str, Outcome]]
"""Outcomes in the order in which runs end, with the names of their folders."""


@dataclass(frozen=True, kw_only=True)
class RunContext:
    """The context that all runs of a study share."""

    study: Study
    folder: Path
    execute: Execute
    """Executes a run whose start is finished."""
    starts: StudyStarts

    def record(self, rows: Sequence[Row], outcome: Outcome) -> None:
        """Append a run's rows and outcome in one write."""
        append(self.folder / "results.jsonl", [*rows, outcome])


@dataclass(frozen=True, kw_only=True)
class PendingRun:
    """A run that is not finished."""

    number: str
    """``run 3 of 20: ARM-seed0``"""
    arm: str
    recipe: Recipe

    @property
    def name(self) -> str:
        """Name of its folder."""
        return run_name(self.arm, self.recipe.seed)


def pending_runs(study: Study, before: Results) -> tuple[list[PendingRun], dict[str, str]]:
    """The pending runs, seed by seed, and the statuses of the others."""
    arms = study.arms()
    runs = [(arm, seed) for seed in study.seeds for arm in arms]
    pending, statuses = [], {}
    for index, (arm, seed) in enumerate(runs, start=1):
        recipe = dataclasses.replace(arms[arm], seed=seed)
        if before.done(arm, seed, fingerprint(recipe)):
            statuses[run_name(arm, seed)] = "skipped"
        else:
            number = f"run {index} of {len(runs)}: {run_name(arm, seed)}"
            pending.append(PendingRun(number=number, arm=arm, recipe=recipe))
    return pending, statuses
