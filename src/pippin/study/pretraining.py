# SPDX-License-Identifier: Apache-2.0
"""The runs of a study that its arms go on from: made once a seed, or known not to be there."""

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from pippin.evaluation.measure import Measure
from pippin.recipes.recipe import Recipe
from pippin.run.folder import START, start_folder
from pippin.study.fairness import start_of
from pippin.study.one_run import Execute, ending_of
from pippin.study.study import Study
from pippin.training.trainer import TrainingDivergedError, TrainingStoppedError

Pretrain = Callable[[Recipe, Path], None]
"""Train the recipe in the folder unless it is finished there."""


class Start(NamedTuple):
    """One run that others go on from."""

    name: str
    seed: int

    def __str__(self) -> str:
        """As recipes name it, with its seed."""
        return f"{START}{self.name} of seed {self.seed}"


@dataclass(frozen=True, kw_only=True)
class Trouble:
    """Why a start is not there, and with it none of the runs that go on from it."""

    status: Literal["failed", "diverged"]
    message: str

    def of_what_follows(self, start: Start) -> "Trouble":
        """The trouble of a run that goes on from this start."""
        what = "diverged" if self.status == "diverged" else "could not be trained"
        return Trouble(
            status=self.status, message=f"{start}, which it starts from, {what}: {self.message}"
        )


@dataclass(frozen=True)
class Starts:
    """The starts of a study, in its folder."""

    study: Study
    folder: Path
    pretrain: Pretrain | None

    def of(self, recipe: Recipe) -> Start | None:
        """What a recipe, or a start's own recipe, goes on from."""
        name = start_of(recipe)
        return None if name is None else Start(name, recipe.seed)

    def before(self, start: Start) -> Start | None:
        """What a start goes on from itself."""
        return self.of(self.recipe(start))

    def recipe(self, start: Start) -> Recipe:
        """Of a start, with its seed."""
        return dataclasses.replace(self.study.starts[start.name], seed=start.seed)

    def make(self, start: Start) -> Trouble | None:
        """Train a start unless it is there; whatever it goes on from must be.

        Returns:
            What went wrong; None = it is there.

        Raises:
            TrainingStoppedError, KeyboardInterrupt: a signal came; nothing went wrong.
        """
        assert self.pretrain is not None
        try:
            folder = start_folder(self.folder, start.name, start.seed)
            self.pretrain(self.recipe(start), folder)
        except TrainingStoppedError:
            raise
        except Exception as error:  # whatever it is, runs that need no such start go on
            status, message = ending_of(error)
            return Trouble(status=status, message=message)
        return None


class Started:
    """An execution that first makes what its recipe goes on from. A start that came to nothing is
    not tried again by the same object.

    Args:
        starts: of the study.
        execute: the execution.
    """

    def __init__(self, starts: Starts, execute: Execute) -> None:
        self.starts, self.execute = starts, execute
        self._tried: dict[Start, Trouble | None] = {}

    def __call__(self, recipe: Recipe, place: Path) -> Sequence[Measure]:
        """Prepare, then execute.

        Raises:
            TrainingDivergedError: the start diverged.
            RuntimeError: it could not be trained.
        """
        start = self.starts.of(recipe)
        trouble = self._trouble(start) if start else None
        if start and trouble:
            message = trouble.of_what_follows(start).message
            kind = TrainingDivergedError if trouble.status == "diverged" else RuntimeError
            raise kind(message)
        return self.execute(recipe, place)

    def _trouble(self, start: Start) -> Trouble | None:
        if start not in self._tried:
            before = self.starts.before(start)
            earlier = self._trouble(before) if before else None
            self._tried[start] = (
                earlier.of_what_follows(before) if before and earlier else self.starts.make(start)
            )
        return self._tried[start]
