# SPDX-License-Identifier: Apache-2.0
"""A run folder: where its parts lie, and how a finished or stopped run is opened again."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pippin.config import difference
from pippin.recipes.recipe import Recipe

TWIN = "twin.json"
"""In a study's run that takes the weights of another one: which."""
Resume = bool | Literal["auto"]
"""Whether training goes on from the newest checkpoint; auto: where the folder holds a run."""
TRANSFER = "transfer.json"
"""In a run that starts from trained weights: what became of every tensor."""
LEFT_BEHIND = {
    "config.json",
    "checkpoints",
    "log.jsonl",
    "tensorboard",
    "previews",
    "failure.txt",
    TRANSFER,
}
"""What there may be before the first checkpoint, beside hidden files."""
START = "@"
"""Begins an ``init.run`` that names a run of the study itself."""


def start_folder(study: Path, name: str, seed: int) -> Path:
    """Where the run lies that arms of a study go on from as ``@name``."""
    return study / "starts" / f"{name}-seed{seed}"


@dataclass(frozen=True)
class RunFolder:
    """Paths below one run folder."""

    path: Path

    @property
    def config(self) -> Path:
        """The recipe as it was run."""
        return self.path / "config.json"

    @property
    def checkpoints(self) -> Path:
        """One folder for each checkpoint kept."""
        return self.path / "checkpoints"

    @property
    def log(self) -> Path:
        """What training says, as JSON lines."""
        return self.path / "log.jsonl"

    @property
    def previews(self) -> Path:
        """Grids drawn while training."""
        return self.path / "previews"

    @property
    def results(self) -> Path:
        """The measures of all evaluations, as JSON lines."""
        return self.path / "results.jsonl"

    @property
    def evaluation(self) -> Path:
        """What an evaluation writes beside its results."""
        return self.path / "evaluation"

    @property
    def evaluated_samples(self) -> Path:
        """The first images that an evaluation drew, with grid and manifest."""
        return self.evaluation / "samples"

    def recipe(self) -> Recipe:
        """The recipe that the folder records.

        Raises:
            ValueError: the folder is no run folder.
        """
        if (self.path / TWIN).is_file():
            name = json.loads((self.path / TWIN).read_text()).get("run")
            raise ValueError(
                f"{self.path} holds measures of the weights of {name}, which was trained alike; "
                f"give {self.path.parent / str(name)}"
            )
        if not self.config.is_file():
            raise ValueError(
                f"{self.path} is no run folder: it has no config.json; "
                "give the folder that `pippin train` wrote"
            )
        return Recipe.load(self.config)

    @property
    def begun(self) -> bool:
        """Whether there is a checkpoint to go on from, or to lose."""
        return any(self.checkpoints.glob("[0-9]*"))

    @property
    def free(self) -> bool:
        """Whether nothing would be lost by another run: there is at most what one leaves that
        ended before its first checkpoint."""
        names = {path.name for path in self.path.glob("*") if not path.name.startswith(".")}
        return names <= LEFT_BEHIND and not self.begun

    def goes_on(self, resume: Resume) -> bool:
        """Whether a run here goes on; auto: unless none was recorded, or nothing would be lost."""
        return self.config.exists() and not self.free if resume == "auto" else resume

    def check(self, recipe: Recipe, *, resume: bool) -> None:
        """Refuse a folder in which this recipe cannot be trained. Nothing is written.

        Raises:
            ValueError: the folder holds a run and ``resume`` is False, there is nothing to
                resume, or the recorded recipe differs in a setting that matters.
        """
        if not self.config.exists():
            if self.begun:
                raise ValueError(
                    f"{self.path} holds checkpoints but no config.json: put that back, or choose "
                    "another --folder"
                )
            if resume:
                raise ValueError(
                    f"nothing to resume: {self.path} has no config.json, which training writes "
                    "when its preparations are done; leave --resume out"
                )
            return
        if not resume and self.free:
            return
        if not resume:
            raise ValueError(
                f"{self.path} already holds a run; go on with --resume True, or choose another "
                "--folder"
            )
        recorded = self.recipe()
        different = difference(recorded, recipe)
        # No number depends on it, and yet an average cannot begin in the middle.
        averages = [sorted(one.name for one in x.train.ema_extra) for x in (recorded, recipe)]
        if averages[0] != averages[1]:
            different["train.ema_extra"] = averages[0], averages[1]
        if different:
            lines = "\n".join(f"  {k}: {old!r} -> {new!r}" for k, (old, new) in different.items())
            raise ValueError(
                f"{self.path} was started with other settings (recorded -> given):\n{lines}\n"
                "resume with the recorded ones (`pippin train --config "
                f"{self.config} --resume True --folder {self.path}`) or choose another --folder"
            )

    def record(self, recipe: Recipe) -> None:
        """Write the recipe that runs here, unless a run is there: its record stands."""
        if self.config.exists() and not self.free:
            return
        recipe.save(self.config)
        if recipe.init.run is None:  # an earlier recipe's, which was never trained
            (self.path / TRANSFER).unlink(missing_ok=True)
