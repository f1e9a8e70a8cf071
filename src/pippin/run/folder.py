# SPDX-License-Identifier: Apache-2.0
"""A run folder: where its parts lie, and how a finished or stopped run is opened again."""

from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pippin.config import difference, older_settings
from pippin.recipes.recipe import Recipe
from pippin.system.formats import read_stamped
from pippin.training.checkpoint_folders import list_aside, list_checkpoints

if TYPE_CHECKING:  # which needs torch; help of the command line does not
    from pippin.run.inputs import RunInputs

TWIN = "twin.json"
"""In a study's run that takes the weights of another one: which."""
Resume = bool | Literal["auto"]
"""Whether training goes on from the newest checkpoint; auto: where the folder holds a run."""
TRANSFER = "transfer.json"
"""In a run that starts from trained weights: what became of every tensor."""
INPUTS_FILE = "inputs.json"
"""The data set and encoders of a run, and where its paths led: :mod:`pippin.run.inputs`."""
LEFT_BEHIND = {
    "config.json",
    INPUTS_FILE,
    "checkpoints",
    "log.jsonl",
    "tensorboard",
    "previews",
    "failure.txt",
    TRANSFER,
}
"""What there may be before the first checkpoint, beside hidden files."""
MAY_MOVE = ("data.path", "data.metadata")
"""Settings that a resumed run may have otherwise where the data set is the same."""
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
            ValueError: the folder is no run folder, or of a newer version.
        """
        if (self.path / TWIN).is_file():
            name = read_stamped(self.path / TWIN, Recipe.FORMAT).get("run")
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
        """Whether there is a checkpoint, damaged or not, to go on from or to lose."""
        return bool(list_checkpoints(self.checkpoints) or list_aside(self.checkpoints))

    @property
    def free(self) -> bool:
        """Whether nothing would be lost by another run: there is at most what one leaves that
        ended before its first checkpoint."""
        names = {path.name for path in self.path.glob("*") if not path.name.startswith(".")}
        return names <= LEFT_BEHIND and not self.begun

    def goes_on(self, resume: Resume) -> bool:
        """Whether a run here goes on; auto: unless none was recorded, or nothing would be lost."""
        return self.config.exists() and not self.free if resume == "auto" else resume

    def begun_with(self, recipe: Recipe) -> dict[str, Any]:
        """Settings that the recorded recipe is too old to have, by dotted path, where the given
        one has other values: what the run was begun with.

        Raises:
            ValueError: the record is damaged.
        """
        if not self.config.exists():
            return {}
        self.recipe()  # refuses what is no record
        older = older_settings(recipe, read_stamped(self.config, Recipe.FORMAT))
        return {path: v for path, v in older.items() if attrgetter(path)(recipe) != v}

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
        if recorded.data.kind == recipe.data.kind:  # the images themselves are compared later
            different = {k: v for k, v in different.items() if k not in MAY_MOVE}
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

    def record(self, recipe: Recipe, inputs: "RunInputs") -> None:
        """Write the recipe that runs here, unless a run is there: its record stands. The inputs
        are those of the training that begins now."""
        inputs.save(self.path / INPUTS_FILE)
        if self.config.exists() and not self.free:
            return
        recipe.save(self.config)
        if recipe.init.run is None:  # an earlier recipe's, which was never trained
            (self.path / TRANSFER).unlink(missing_ok=True)
