# SPDX-License-Identifier: Apache-2.0
"""What a trained model brings of its data and encoders, held against what is there.

Sampling needs neither the images nor their folder. Where images are needed, they are compared with
those of the training: other classes are refused, other images are said and stand in the protocol.
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
    image_changes,
    listed,
)
from pippin.data.source import PictureSource
from pippin.encoders.autoencoder import Autoencoder
from pippin.recipes.recipe import Recipe
from pippin.run.inputs import RunInputs, captions_read, reads_classes
from pippin.run.places import AUTOENCODER, DATA, SHIPPED_PREFIX, TEXT, paths_of
from pippin.system.terminal import note


def refuse_reordered(source: PictureSource, recipe: Recipe, trained: str) -> None:
    """Refuse images whose class ids are not those of an earlier version, for a model that kept no
    class names: numbers were ordered as text then, and 2.0 and 2 were two classes.

    Args:
        source: the images.
        recipe: of the model.
        trained: the model, for the message.

    Raises:
        ValueError: both orders are named.
    """
    earlier = getattr(source, "earlier_class_names", None)
    if earlier is not None and reads_classes(recipe):
        raise ValueError(
            f"{trained} was trained by a version that ordered its classes as text "
            f"({listed(earlier)}); they are {listed(source.class_names)} now, so class ids would "
            "mean other classes. `pippin sample` draws it by the old names; to train or measure "
            "on these images, rename the classes so that both orders agree, or train anew"
        )


@dataclass(frozen=True, kw_only=True)
class Known:
    """What is known of a trained model without opening its images."""

    source: str
    """The run or model, for messages."""
    inputs: RunInputs | None
    """None for runs and exports of versions that kept none."""
    num_classes: int | None
    """Of its weights; None where these do not say."""
    places: Mapping[str, str] = field(default_factory=dict)
    """Setting -> path that it led to, of the settings that are still as recorded."""
    other_autoencoder: bool = False
    """Whether the user named another one than the recipe does."""

    def names_of_folder(
        self, names: Callable[[], Sequence[str]], folder: str, console: Console
    ) -> tuple[str, ...]:
        """Class names for a model that kept none: those of its folder as it is now, or numbers.

        Args:
            names: opens the folder and gives its class names.
            folder: ``data.path``.
            console: where it is said which they are.
        """
        count = self.num_classes
        numbers = tuple(map(str, range(count or 1)))
        kept = f"{self.source} kept no class names (an older version made it)"
        try:
            found = tuple(names())
        except (OSError, ValueError) as error:
            note(
                console,
                f"{kept}, and data.path cannot be read "
                f"({error!s}): classes are {numbers[0]} to {numbers[-1]}; "
                "--data.path FOLDER takes the names of a folder",
                label="class names are not known:",
            )
            return numbers
        if count not in (None, len(found)):
            note(
                console,
                f"{kept}, and {folder} has "
                f"{len(found)} classes where the model has {count}: classes are {numbers[0]} to "
                f"{numbers[-1]}",
                label="class names are not known:",
            )
            return numbers
        note(
            console,
            f"{kept}; taken are those of {folder} as it is now: {listed(found)}",
            label="class names:",
        )
        return found

    def check_place(self, recipe: Recipe, located: Recipe) -> None:
        """Refuse to look for images where none can be.

        Raises:
            ValueError: their folder is not there; it says how to name another.
        """
        if not isinstance(located.data, ImagesConfig) or Path(located.data.path).is_dir():
            return
        raise ValueError(
            f"the images of {self.source} are needed and not there: "
            f"{self._absent(DATA, recipe, located)}; give their folder with --data.path FOLDER"
        )

    def check_source(self, now: DataRecord, recipe: Recipe, folder: str, console: Console) -> None:
        """Hold the images that are there against those of the training.

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
                f"{folder} has other classes than {self.source} was trained on: {classes}. Its "
                "images cannot be shown to this model by class id: put the class names back, or "
                "give the folder that has them with --data.path; `pippin sample` needs no images, "
                "and `pippin evaluate SAMPLES --data.path FOLDER` measures samples against any"
            )
        if changed := image_changes(before, now, captions_read(recipe)):
            note(
                console,
                f"{folder} is not what {self.source} was "
                f"trained on: {changed}; the protocol says so",
                label="other data:",
            )
        if changed := decoder_change(before, now):
            note(console, changed, label="pixels may differ by rounding:")

    def _check_count(self, now: DataRecord, recipe: Recipe, folder: str) -> None:
        count, names = self.num_classes, now.class_names
        if reads_classes(recipe) and count not in (None, len(names)):
            raise ValueError(
                f"{folder} has {len(names)} classes ({listed(names)}), and {self.source} was "
                f"trained on {count}; which they were is not known, an older version made it: "
                "give the folder that it was trained on with --data.path"
            )

    def protocol(self, now: DataRecord | None, recipe: Recipe) -> dict[str, Any]:
        """What a measure's protocol says of the data that the model was trained on, where these
        are not the ones at hand, or were not the same throughout.

        Args:
            now: the images that are measured on; None where it is on none of the run's.
            recipe: of the run.
        """
        found: dict[str, Any] = {}
        if self.inputs is None:
            if isinstance(recipe.data, ImagesConfig):
                found["data.trained_on"] = "not recorded"
            return found
        if now is not None and image_changes(self.inputs.data, now, captions_read(recipe)):
            before = self.inputs.data
            found["data.trained_on"] = {
                "train": before.train.content,
                "held_out": before.held_out.content,
            }
        if self.inputs.changes:
            found["data.changes"] = [one.to_dict() for one in self.inputs.changes]
        return found

    def load_autoencoder(
        self, recipe: Recipe, located: Recipe, device: torch.device, console: Console
    ) -> Autoencoder:
        """The autoencoder that the model was trained with.

        Raises:
            ValueError: it is not there, or another one lies in its place.
        """
        source = located.autoencoder.source
        if AUTOENCODER in self.places and not Path(source).is_dir():
            raise ValueError(
                f"the autoencoder of {self.source} is not there: "
                f"{self._absent(AUTOENCODER, recipe, located)}; give its folder with "
                "--autoencoder FOLDER, or a model of `pippin export`, which brings its own"
            )
        try:
            autoencoder = Autoencoder.load(located.autoencoder, device=device)
        except ValueError as error:
            raise ValueError(
                f"the autoencoder of {self.source}: {error}; --autoencoder FOLDER names one"
            ) from error
        wanted = self.inputs.autoencoder if self.inputs else autoencoder.fingerprint
        if autoencoder.fingerprint == wanted:
            return autoencoder
        what = f"{source} has the fingerprint {autoencoder.fingerprint}"
        if not self.other_autoencoder:
            raise ValueError(
                f"{what}, and {self.source} was trained with {wanted}: its latents would be "
                "decoded wrongly. Put the autoencoder back that it was trained with, or name it "
                "with --autoencoder FOLDER"
            )
        note(
            console,
            f"{what}; {self.source} was trained with {wanted}",
            label="another autoencoder:",
        )
        return autoencoder

    def check_text_place(self, recipe: Recipe, located: Recipe) -> None:
        """Refuse a text encoder that is not where it was.

        Raises:
            ValueError: it says how to name another place.
        """
        for place, source in enumerate(located.text.source):
            setting = f"{TEXT}.{place}"
            if setting in self.places and not Path(source).is_dir():
                raise ValueError(
                    f"a text encoder of {self.source} is not there: "
                    f"{self._absent(setting, recipe, located)}; give all encoders "
                    "with --text-source"
                )

    @contextmanager
    def naming_text_source(self, located: Recipe) -> Iterator[None]:
        """Where the text encoder of an earlier version's run, which did not record where its
        paths led, cannot be opened: say how to name another place.

        Raises:
            ValueError: in the place of the encoder's own.
        """
        try:
            yield
        except ValueError as error:
            paths = [one for one in located.text.source if not one.startswith(SHIPPED_PREFIX)]
            if all(Path(one).is_dir() for one in paths):
                raise  # they are there; something else is wrong
            raise ValueError(
                f"the text encoder of {self.source}, seen from {Path.cwd()}: {error}; "
                "--text-source FOLDER ... names all its encoders"
            ) from error

    def check_text(
        self, recipe: Recipe, located: Recipe, fingerprint: Callable[[], str], console: Console
    ) -> None:
        """Hold the text encoder that is there against that of the training.

        Raises:
            ValueError: it is not there; it says how to name another.
        """
        self.check_text_place(recipe, located)
        if self.inputs is None or self.inputs.text_encoder is None:
            return
        found = fingerprint()
        if found != self.inputs.text_encoder:
            note(
                console,
                f"the files of "
                f"{', '.join(located.text.source)} have the fingerprint {found}; "
                f"{self.source} was trained with {self.inputs.text_encoder}",
                label="another text encoder:",
            )

    def _absent(self, setting: str, recipe: Recipe, located: Recipe) -> str:
        """Where something was looked for, in words."""
        given, now = paths_of(recipe).get(setting, ""), paths_of(located).get(setting, "")
        recorded = self.places.get(setting)
        said = f"{setting} {given}"
        if now != given:
            return f"{said}, looked for as {now}"
        if recorded and recorded != given:
            return f"{said}, which was {recorded} when it was trained"
        return f"{said}, seen from {Path.cwd()}"
