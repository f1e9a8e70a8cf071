# SPDX-License-Identifier: Apache-2.0
"""Record of a trained model's data and encoders, compared with what is there now.

Sampling needs neither the images nor their folder. Where images are needed, they are compared with
those of the training: other classes are refused; other images are logged and enter the protocol.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from pippin.data.config import ImagesConfig
from pippin.data.record import (
    DataRecord,
    class_changes,
    decoder_change,
    format_names,
    image_changes,
)
from pippin.data.source import ImageSource
from pippin.encoders.autoencoder import Autoencoder
from pippin.encoders.config import SHIPPED_PREFIX
from pippin.recipes.recipe import Recipe
from pippin.runs.folder import AUTOENCODER, DATA, TEXT, path_settings
from pippin.runs.inputs import RunInputs, captions_read, reads_classes
from pippin.system.text import print_above_progress


def refuse_reordered_classes(source: ImageSource, recipe: Recipe, trained: str) -> None:
    """Refuse images whose class ids differ from those of an earlier version, for a model without
    recorded class names. That version sorted numbers as text, and 2.0 and 2 were two classes.

    Args:
        source: the images.
        recipe: of the model.
        trained: name of the model for the message.

    Raises:
        ValueError: the message names both orders.
    """
    earlier = getattr(source, "earlier_class_names", None)
    if earlier is not None and reads_classes(recipe):
        raise ValueError(
            f"{trained} was trained by a version that ordered its classes as text "
            f"({format_names(earlier)}); they are {format_names(source.class_names)} now, so "
            "class ids would mean other classes. `pippin sample` uses the old names; to train or "
            "evaluate on these images, rename the classes so that both orders agree, or train "
            "again"
        )


@dataclass(frozen=True, kw_only=True)
class TrainingRecord:
    """Record of a trained model, read without opening its images."""

    source: str
    """Name of the run or model for messages."""
    inputs: RunInputs | None
    """None for runs and exports of versions that kept none."""
    num_classes: int | None
    """Number of classes by its weights; None where these do not say."""
    places: Mapping[str, str] = field(default_factory=dict)
    """Setting -> resolved path, of the settings that are still as recorded."""
    autoencoder_overridden: bool = False
    """Whether the user gave another autoencoder than the recipe names."""

    def class_names_of_folder(
        self, read_names: Callable[[], Sequence[str]], folder: str, console: Console
    ) -> tuple[str, ...]:
        """Class names for a model that kept none: those of its folder as it is now, or numbers.

        Args:
            read_names: opens the folder and returns its class names.
            folder: ``data.path``.
            console: for a note on the choice.
        """
        count = self.num_classes
        numbers = tuple(map(str, range(count or 1)))
        prefix = f"{self.source} kept no class names (an older version made it)"
        try:
            names = tuple(read_names())
        except (OSError, ValueError) as error:
            print_above_progress(
                console,
                f"{prefix}, and data.path cannot be read "
                f"({error!s}): classes are {numbers[0]} to {numbers[-1]}; "
                "--data.path FOLDER takes the names of a folder",
                label="class names are unknown:",
            )
            return numbers
        if count not in (None, len(names)):
            print_above_progress(
                console,
                f"{prefix}, and {folder} has "
                f"{len(names)} classes where the model has {count}: classes are {numbers[0]} to "
                f"{numbers[-1]}",
                label="class names are unknown:",
            )
            return numbers
        print_above_progress(
            console,
            f"{prefix}; using those of {folder} as it is now: {format_names(names)}",
            label="class names:",
        )
        return names

    def check_images_exist(self, recipe: Recipe, located: Recipe) -> None:
        """Refuse to look for images in a folder that does not exist.

        Raises:
            ValueError: the folder does not exist; the message says how to name another.
        """
        if not isinstance(located.data, ImagesConfig) or Path(located.data.path).is_dir():
            return
        raise ValueError(
            f"the images of {self.source} are needed and not there: "
            f"{self._describe_missing(DATA, recipe, located)}; give their folder with --data.path "
            "FOLDER"
        )

    def check_images(self, now: DataRecord, recipe: Recipe, folder: str, console: Console) -> None:
        """Compare the current images with those of the training.

        Raises:
            ValueError: class ids of the images mean other classes than the model's.
        """
        if self.inputs is None:
            self._check_count(now, recipe, folder)
            return
        before = self.inputs.data
        classes = class_changes(before.class_names, now.class_names)
        if classes and reads_classes(recipe):
            raise ValueError(
                f"{folder} has other classes than {self.source} was trained on: {classes}. The "
                "class ids do not match: restore the class names, or "
                "give the folder that has them with --data.path; `pippin sample` needs no images, "
                "and `pippin evaluate SAMPLES --data.path FOLDER` measures samples against any"
            )
        if changed := image_changes(before, now, captions_read(recipe)):
            print_above_progress(
                console,
                f"{folder} is not what {self.source} was "
                f"trained on: {changed}; the protocol records it",
                label="other data:",
            )
        if changed := decoder_change(before, now):
            print_above_progress(console, changed, label="pixels may differ by rounding:")

    def _check_count(self, now: DataRecord, recipe: Recipe, folder: str) -> None:
        count, names = self.num_classes, now.class_names
        if reads_classes(recipe) and count not in (None, len(names)):
            raise ValueError(
                f"{folder} has {len(names)} classes ({format_names(names)}), and {self.source} "
                f"was trained on {count}; their names are unknown, an older version made it: "
                "give the folder that it was trained on with --data.path"
            )

    def protocol(self, now: DataRecord | None, recipe: Recipe) -> dict[str, Any]:
        """Protocol entries on the training data, where these differ from the current data or
        changed during training.

        Args:
            now: images of the measure; None where it uses none of the run's.
            recipe: of the run.
        """
        entries: dict[str, Any] = {}
        if self.inputs is None:
            if isinstance(recipe.data, ImagesConfig):
                entries["data.trained_on"] = "not recorded"
            return entries
        if now is not None and image_changes(self.inputs.data, now, captions_read(recipe)):
            before = self.inputs.data
            entries["data.trained_on"] = {
                "train": before.train.content,
                "held_out": before.held_out.content,
            }
        if self.inputs.changes:
            entries["data.changes"] = [change.to_dict() for change in self.inputs.changes]
        return entries

    def load_autoencoder(
        self, recipe: Recipe, located: Recipe, device: torch.device, console: Console
    ) -> Autoencoder:
        """Load the autoencoder that the model was trained with.

        Raises:
            ValueError: it is not there, or it is another one.
        """
        source = located.autoencoder.source
        if AUTOENCODER in self.places and not Path(source).is_dir():
            raise ValueError(
                f"the autoencoder of {self.source} is not there: "
                f"{self._describe_missing(AUTOENCODER, recipe, located)}; give its folder with "
                "--autoencoder FOLDER, or a model of `pippin export`, which contains its own"
            )
        try:
            autoencoder = Autoencoder.load(located.autoencoder, device=device)
        except ValueError as error:
            raise ValueError(
                f"the autoencoder of {self.source}: {error}; --autoencoder FOLDER names one"
            ) from error
        expected = self.inputs.autoencoder if self.inputs else autoencoder.fingerprint
        if autoencoder.fingerprint == expected:
            return autoencoder
        description = f"{source} has the fingerprint {autoencoder.fingerprint}"
        if not self.autoencoder_overridden:
            raise ValueError(
                f"{description}, and {self.source} was trained with {expected}: its latents would "
                "be decoded wrongly. Restore the autoencoder that it was trained with, or name it "
                "with --autoencoder FOLDER"
            )
        print_above_progress(
            console,
            f"{description}; {self.source} was trained with {expected}",
            label="another autoencoder:",
        )
        return autoencoder

    def check_text_encoder_exists(self, recipe: Recipe, located: Recipe) -> None:
        """Refuse a text encoder whose folder does not exist.

        Raises:
            ValueError: the message says how to name another folder.
        """
        for index, source in enumerate(located.text.source):
            setting = f"{TEXT}.{index}"
            if setting in self.places and not Path(source).is_dir():
                raise ValueError(
                    f"a text encoder of {self.source} is not there: "
                    f"{self._describe_missing(setting, recipe, located)}; give all encoders "
                    "with --text-source"
                )

    @contextmanager
    def suggest_text_source(self, located: Recipe) -> Iterator[None]:
        """Add to the error of a missing text encoder how to name another folder: runs of earlier
        versions did not record their resolved paths.

        Raises:
            ValueError: in place of the encoder's own.
        """
        try:
            yield
        except ValueError as error:
            paths = [path for path in located.text.source if not path.startswith(SHIPPED_PREFIX)]
            if all(Path(path).is_dir() for path in paths):
                raise  # they are there; something else is wrong
            raise ValueError(
                f"the text encoder of {self.source}, seen from {Path.cwd()}: {error}; "
                "--text-source FOLDER ... names all its encoders"
            ) from error

    def check_text_encoder(
        self, recipe: Recipe, located: Recipe, fingerprint: Callable[[], str], console: Console
    ) -> None:
        """Compare the current text encoder with that of the training.

        Raises:
            ValueError: it is not there; the message says how to name another.
        """
        self.check_text_encoder_exists(recipe, located)
        if self.inputs is None or self.inputs.text_encoder is None:
            return
        current = fingerprint()
        if current != self.inputs.text_encoder:
            print_above_progress(
                console,
                f"the files of "
                f"{', '.join(located.text.source)} have the fingerprint {current}; "
                f"{self.source} was trained with {self.inputs.text_encoder}",
                label="another text encoder:",
            )

    def _describe_missing(self, setting: str, recipe: Recipe, located: Recipe) -> str:
        """A setting, its value, and where it was looked for."""
        path, resolved = (
            path_settings(recipe).get(setting, ""),
            path_settings(located).get(setting, ""),
        )
        recorded = self.places.get(setting)
        description = f"{setting} {path}"
        if resolved != path:
            return f"{description}, looked for as {resolved}"
        if recorded and recorded != path:
            return f"{description}, which was {recorded} when it was trained"
        return f"{description}, seen from {Path.cwd()}"
