# SPDX-License-Identifier: Apache-2.0
"""What is still to be run of a study, and what all its runs share."""

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pippin.config import fingerprint
from pippin.recipes.recipe import Recipe
from pippin.study.folder import run_name
from pippin.study.one_run import Execute
from pippin.study.pretraining import Starts
from pippin.study.results import Outcome, Results, Row, append
from pippin.study.study import Study

Ended = Iterator[tuple[str, Outcome]]
"""Runs as they end, by the names of their folders."""


@dataclass(frozen=True, kw_only=True)
class Runs:
    """What all runs of a study share."""

    study: Study
    folder: Path
    execute: Execute
    """For a run whose start is there."""
    starts: Starts

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


def pending_runs(study: Study, before: Results) -> tuple[list[Pending], dict[str, str]]:
    """What is to be run, seed by seed, and the statuses of the others."""
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
