# SPDX-License-Identifier: Apache-2.0
"""Run folder: its paths, the paths in its recipe, and checks before a run starts there.

Relative paths in a recipe refer to the working directory of the command. A run records the
absolute path of each of its settings, so that it can be resumed, sampled and evaluated from any
folder. The recipe and its fingerprint keep the paths as given.
"""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from shlex import join
from typing import TYPE_CHECKING, Any, Literal

from pippin.config import ConfigError, difference, legacy_settings, replace_at
from pippin.data.config import ImagesConfig
from pippin.encoders.config import SHIPPED_PREFIX
from pippin.recipes.recipe import Recipe
from pippin.runs.checkpoint_folders import list_aside, list_checkpoints
from pippin.system.formats import read_versioned_json

if TYPE_CHECKING:
    from pippin.runs.inputs import RunInputs


SHARED_WEIGHTS_FILE = "twin.json"
"""File in a study's run that shares the weights of another run: the name of that run."""
Resume = bool | Literal["auto"]
"""Whether training resumes from the newest checkpoint; auto: where the folder holds a run."""
LOG_FILE = "log.jsonl"
"""The training log of a run."""
TRANSFER_FILE = "transfer.json"
"""Transfer report of a run that starts from trained weights: the origin of every tensor."""
INPUTS_FILE = "inputs.json"
"""The data set, the encoders and the resolved paths of a run: :mod:`pippin.runs.inputs`."""
TRACKER_FILE = "tracker.json"
"""Ids of a run at its trackers, by which a resumed run continues them."""
FILES_BEFORE_CHECKPOINT = {
    "config.json",
    INPUTS_FILE,
    "checkpoints",
    LOG_FILE,
    TRACKER_FILE,
    "tensorboard",
    "wandb",
    "mlflow",
    "previews",
    "snapshots",
    "failure.txt",
    TRANSFER_FILE,
}
"""Files that may exist before the first checkpoint, beside hidden files."""
MOVABLE_SETTINGS = ("data.path", "data.metadata")
"""Settings that may change on resume where the data set stays the same."""
STUDY_RUN_PREFIX = "@"
"""Prefix of an ``init.run`` that names a pretraining run of the study itself."""


def start_folder(study: Path, name: str, seed: int) -> Path:
    """Folder of the pretraining run that arms of a study start from as ``@name``."""
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
        """The training log, as JSON lines."""
        return self.path / LOG_FILE

    @property
    def previews(self) -> Path:
        """Preview grids of the training."""
        return self.path / "previews"

    def preview(self, images_seen: int) -> Path:
        """Preview grid at a number of images seen."""
        return self.previews / f"{images_seen:09d}.png"

    def list_previews(self) -> list[tuple[int, Path]]:
        """(images seen, file) of every preview grid, in the order of training."""
        return sorted(
            (int(path.stem), path)
            for path in self.previews.glob("*.png")
            if re.fullmatch(r"\d{9,}", path.stem, re.ASCII)
        )

    @property
    def snapshots(self) -> Path:
        """Snapshots of averages, see :mod:`pippin.runs.storage.average_snapshots`."""
        return self.path / "snapshots"

    def at_checkpoint(self, images_seen: int) -> "RunFolder":
        """Folder of the results and images of an evaluation of one checkpoint."""
        return RunFolder(self.evaluation / f"checkpoint-{images_seen}")

    def average(self, name: str) -> Path:
        """Weights of a reconstructed average, such as ema-power-0.12."""
        return self.path / "averages" / f"{name}.safetensors"

    @property
    def results(self) -> Path:
        """The measures of all evaluations, as JSON lines."""
        return self.path / "results.jsonl"

    @property
    def evaluation(self) -> Path:
        """Files of an evaluation beside its results."""
        return self.path / "evaluation"

    @property
    def evaluated_samples(self) -> Path:
        """The first samples of an evaluation, with grid and manifest."""
        return self.evaluation / "samples"

    def recipe(self) -> Recipe:
        """The recipe that the folder records.

        Raises:
            ValueError: the folder is no run folder, or of a newer version.
        """
        if (self.path / SHARED_WEIGHTS_FILE).is_file():
            name = read_versioned_json(self.path / SHARED_WEIGHTS_FILE, Recipe.FORMAT).get("run")
            raise ValueError(
                f"{self.path} shares the weights of {name}, whose training is identical; "
                f"give {self.path.parent / str(name)}"
            )
        if not self.config.is_file():
            raise ValueError(
                f"{self.path} is no run folder: it has no config.json; "
                "give the folder that `pippin train` wrote"
            )
        return Recipe.load(self.config)

    @property
    def has_checkpoints(self) -> bool:
        """Whether there is a checkpoint, damaged or not."""
        return bool(list_checkpoints(self.checkpoints) or list_aside(self.checkpoints))

    @property
    def is_reusable(self) -> bool:
        """Whether another run may use the folder: it holds at most the files of a run that ended
        before its first checkpoint."""
        names = {path.name for path in self.path.glob("*") if not path.name.startswith(".")}
        return names <= FILES_BEFORE_CHECKPOINT and not self.has_checkpoints

    def resumes(self, resume: Resume) -> bool:
        """Whether a run here resumes; auto: where the folder holds a run to resume."""
        return self.config.exists() and not self.is_reusable if resume == "auto" else resume

    def missing_settings(self, recipe: Recipe) -> dict[str, Any]:
        """Settings that the recorded recipe is too old to have, by dotted path, with the values
        that the run started with, where the given recipe has other values.

        Raises:
            ValueError: the record is damaged.
        """
        if not self.config.exists():
            return {}
        self.recipe()  # raises for a damaged record
        older = legacy_settings(recipe, read_versioned_json(self.config, Recipe.FORMAT))
        return {path: v for path, v in older.items() if attrgetter(path)(recipe) != v}

    def check(self, recipe: Recipe, *, resume: bool) -> None:
        """Refuse a folder in which this recipe cannot be trained. Writes nothing.

        Raises:
            ValueError: the folder holds a run and ``resume`` is False, there is nothing to
                resume, or the recorded recipe differs in a setting that matters.
        """
        if not self.config.exists():
            if self.has_checkpoints:
                raise ValueError(
                    f"{self.path} holds checkpoints but no config.json: restore it, or choose "
                    "another --folder"
                )
            if resume:
                raise ValueError(
                    f"nothing to resume: {self.path} has no config.json, which training writes "
                    "when its preparations are done; leave --resume out to start it"
                )
            return
        if not resume and self.is_reusable:
            return
        if not resume:
            raise ValueError(
                f"{self.path} already holds a run; resume it with `{self._resume_command}`, or "
                "choose another --folder"
            )
        recorded = self.recipe()
        different = difference(recorded, recipe)
        if recorded.data.kind == recipe.data.kind:  # the images themselves are compared later
            different = {k: v for k, v in different.items() if k not in MOVABLE_SETTINGS}
        # Averages are no protocol setting, and yet one cannot begin in the middle of a run.
        averages = [
            sorted(average.name for average in x.train.ema_extra) for x in (recorded, recipe)
        ]
        if averages[0] != averages[1]:
            different["train.ema_extra"] = averages[0], averages[1]
        widths = [
            sorted(profile.sigma_rel for profile in x.train.snapshot_profiles)
            for x in (recorded, recipe)
        ]
        if widths[0] != widths[1]:
            different["train.snapshot_widths (none: snapshot_every 0)"] = widths[0], widths[1]
        if different:
            lines = "\n".join(f"  {k}: {old!r} -> {new!r}" for k, (old, new) in different.items())
            raise ValueError(
                f"{self.path} was started with other settings (recorded -> given):\n{lines}\n"
                f"resume with the recorded ones (`{self._resume_command}`) or choose another "
                "--folder"
            )

    @property
    def _resume_command(self) -> str:
        """Command that resumes the run with its recorded settings."""
        options = ["--config", str(self.config), "--resume", "True", "--folder", str(self.path)]
        return join(["pippin", "train", *options])

    def record(self, recipe: Recipe, inputs: "RunInputs") -> None:
        """Record the inputs of a training that starts or resumes, and its recipe unless the folder
        has a run already."""
        inputs.save(self.path / INPUTS_FILE)
        if self.config.exists() and not self.is_reusable:
            return
        recipe.save(self.config)
        if recipe.init.run is None:  # an earlier recipe's, which was never trained
            (self.path / TRANSFER_FILE).unlink(missing_ok=True)


DATA, AUTOENCODER, TEXT = "data.path", "autoencoder.source", "text.source"
WRITTEN = ("data.index_folder", "cache.folder", "text.folder")
"""Settings of folders that are created where they are missing."""
READ = (
    DATA,
    AUTOENCODER,
    "init.run",
    "train.repa.source",
    *(f"evaluation.{name}" for name in ("reference", "clip", "inception", "dinov2", "lpips")),
)
"""Settings of files or folders; all but the data may also name a model of the hub or package."""


def path_settings(recipe: Recipe) -> dict[str, str]:
    """Setting -> path or name, of all settings that may hold a path; ``text.source`` has one entry
    per encoder, as ``text.source.0``."""
    settings = {}
    for setting in (*WRITTEN, *READ):
        value: object = recipe
        for name in setting.split("."):
            value = getattr(value, name, None)
        if setting == "evaluation.reference" and recipe.evaluation.reference_kind != "file":
            continue
        if (
            isinstance(value, str)
            and value
            and not value.startswith((SHIPPED_PREFIX, STUDY_RUN_PREFIX))
        ):
            settings[setting] = value
    sources = enumerate(recipe.text.source)
    return settings | {
        f"{TEXT}.{index}": source
        for index, source in sources
        if not source.startswith(SHIPPED_PREFIX)
    }


def resolved_paths(recipe: Recipe) -> dict[str, str]:
    """Setting -> absolute path, of all paths that exist from the working directory."""
    return {
        setting: os.path.abspath(value)
        for setting, value in path_settings(recipe).items()
        if setting in WRITTEN or Path(value).exists()
    }


def locate(recipe: Recipe, *places: Mapping[str, str]) -> Recipe:
    """Replace each path of a recipe by the first of its recorded paths that exists.

    Args:
        recipe: as recorded or given.
        places: setting -> path, in order of precedence; a setting without an existing path stays
            as given.
    """
    for setting, value in path_settings(recipe).items():
        usable = _is_writable if setting in WRITTEN else os.path.exists
        for paths in places:
            if setting in paths and usable(paths[setting]):
                value = paths[setting]
                break
        recipe = _put(recipe, setting, value)
    return recipe


def with_data_path(recipe: Recipe, path: str | None) -> Recipe:
    """The recipe with another folder of images; None = unchanged.

    Raises:
        ConfigError: the recipe has no folder of images.
    """
    if path is None:
        return recipe
    if not isinstance(recipe.data, ImagesConfig):
        raise ConfigError(
            f"--data.path {path} has no effect: this model was not trained on a folder of images "
            f"(data.kind {recipe.data.kind}); leave it out"
        )
    return replace_at(recipe, DATA, path)


def unchanged_paths(recipe: Recipe, recorded: Recipe, places: Mapping[str, str]) -> dict[str, str]:
    """The recorded paths whose setting is the same in both recipes."""
    now, before = path_settings(recipe), path_settings(recorded)
    return {name: path for name, path in places.items() if now.get(name) == before.get(name)}


def _put(recipe: Recipe, setting: str, value: str) -> Recipe:
    if not setting.startswith(f"{TEXT}."):
        return replace_at(recipe, setting, value)
    index = int(setting.rpartition(".")[2])
    sources = recipe.text.source
    return replace_at(recipe, TEXT, (*sources[:index], value, *sources[index + 1 :]))


def _is_writable(folder: str) -> bool:
    return os.path.isdir(folder) and os.access(folder, os.W_OK)
