# SPDX-License-Identifier: Apache-2.0
"""The pending runs of a study, and the context that all its runs share."""

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pippin.config import fingerprint
from pippin.recipes.recipe import Recipe
from pippin.study.folder import run_name
from pippin.study.pretraining import StudyStarts
from pippin.study.results import Outcome, Results, Row, append
from pippin.study.run_execution import Execute
from pippin.study.study import Study

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
