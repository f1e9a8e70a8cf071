# SPDX-License-Identifier: Apache-2.0
"""What a run was given beside its settings: the record of its data set and encoders, and where
its paths led.

It lies in ``inputs.json`` of the run, in each checkpoint's state and in exports, so that a trained
model keeps its class names whatever becomes of the folder of images. A run whose inputs differ
from what is there now is resumed only where that is asked for, and never with other classes.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pippin.config import Config, ConfigError
from pippin.data.record import (
    DataRecord,
    class_changes,
    decoder_change,
    image_changes,
)
from pippin.recipes.recipe import Recipe
from pippin.run.folder import INPUTS_FILE

ENTRY = "inputs"
"""In a checkpoint's state."""


UNRECORDED = "data before this were not recorded"
"""A change of a model that an older version trained."""


@dataclass(frozen=True, kw_only=True)
class InputsChange(Config):
    """A resume on other data than before, which was asked for."""

    images_seen: int
    """By the run when it was resumed."""
    what: str


@dataclass(frozen=True, kw_only=True)
class RunInputs(Config):
    """What a run was given beside its settings."""

    FORMAT = "inputs"

    data: DataRecord
    autoencoder: str
    """Fingerprint of its weights."""
    text_encoder: str | None = None
    """Fingerprint of its files; None for a model that reads no text."""
    null_mask: tuple[bool, ...] | None = None
    """Own tokens of the null caption, where the model attends to these alone; its features are
    among the weights."""
    places: dict[str, str] = field(default_factory=dict)
    """Setting -> absolute path that it led to, see :mod:`pippin.run.places`."""
    changes: tuple[InputsChange, ...] = ()
    """Resumes on other data, the oldest first."""


def read_inputs(folder: Path) -> RunInputs | None:
    """What a run's folder records; None for runs of versions that kept no inputs.

    Raises:
        ConfigError: the file is damaged.
    """
    path = folder / INPUTS_FILE
    return RunInputs.load(path) if path.exists() else None


def inputs_in(values: Mapping[str, Any], source: str) -> RunInputs | None:
    """Of a checkpoint's state; None where it has none.

    Args:
        values: the state.
        source: named in messages.

    Raises:
        ConfigError: they cannot be read.
    """
    if values.get(ENTRY) is None:
        return None
    try:
        return RunInputs.from_dict(values[ENTRY])
    except ConfigError as error:
        raise ConfigError(f"{source}: what it records of its data is {error}") from error


def captions_read(recipe: Recipe) -> tuple[str, ...]:
    """Kinds of captions that a recipe's model is trained on."""
    return tuple(recipe.text.captions) if reads_text(recipe) else ()


def reads_text(recipe: Recipe) -> bool:
    """Whether a recipe's model is conditioned on captions."""
    return recipe.conditioning.semantic.kind == "text"


def reads_classes(recipe: Recipe) -> bool:
    """Whether a recipe's model is conditioned on class ids."""
    return recipe.conditioning.semantic.kind == "label"


@dataclass(frozen=True, kw_only=True)
class Differences:
    """What of a run's inputs is not as it was."""

    classes: str = ""
    """Ids that mean another class; empty for models that read none."""
    autoencoder: str = ""
    images: str = ""
    """Images, captions, or the text encoder's files."""
    decoder: str = ""

    @classmethod
    def between(cls, recorded: RunInputs, now: RunInputs, recipe: Recipe) -> "Differences":
        """What differs for the model of a recipe."""
        classes = class_changes(recorded.data.class_names, now.data.class_names)
        images = image_changes(recorded.data, now.data, captions_read(recipe))
        if recorded.text_encoder != now.text_encoder:
            said = f"the files of text.source differ ({recorded.text_encoder} before, "
            images = "; ".join(filter(None, [images, f"{said}{now.text_encoder} now)"]))
        same = recorded.autoencoder == now.autoencoder
        return cls(
            classes=classes if reads_classes(recipe) else "",
            autoencoder=""
            if same
            else f"its fingerprint is {now.autoencoder}, recorded is {recorded.autoencoder}",
            images=images,
            decoder=decoder_change(recorded.data, now.data),
        )


def continued(
    recorded: RunInputs,
    now: RunInputs,
    recipe: Recipe,
    *,
    source: str,
    images_seen: int,
    allow_changed_data: bool,
) -> RunInputs:
    """The inputs of a run that is resumed, with a change on record where one was allowed.

    Args:
        recorded: of the checkpoint.
        now: what is there.
        recipe: of the run.
        source: the run, for messages.
        images_seen: at the checkpoint.
        allow_changed_data: go on with other images.

    Raises:
        ValueError: class ids would mean other classes, latents would be another autoencoder's, or
            images differ and that was not allowed.
    """
    found = Differences.between(recorded, now, recipe)
    place = now.places.get("data.path") or f"data.kind {now.data.kind}"
    if found.classes:
        raise ValueError(
            f"{source} was trained on other classes than {place} has: {found.classes}. Its class "
            "ids would mean other classes, so it cannot be resumed: put the class names back, or "
            f"give the folder that has them with --data.path; a new run may start from its "
            f"weights (--init.run {source} --init.transfer classes --folder ANOTHER)"
        )
    if found.autoencoder:
        raise ValueError(
            f"{source} was trained on latents of another autoencoder than autoencoder.source "
            f"{recipe.autoencoder.source} is: {found.autoencoder}. Put the one back that it was "
            "trained with, or train in another --folder"
        )
    if found.images and not allow_changed_data:
        raise ValueError(
            f"{source} was trained on other data than {place} holds: {found.images}. Resumed on "
            "it, the run is not the one that was begun: put the data back, give its folder with "
            "--data.path, or go on with what is there by --allow-changed-data True, which the "
            "run's record will say"
        )
    if not found.images:
        return replace(now, changes=recorded.changes)
    change = InputsChange(images_seen=images_seen, what=found.images)
    return replace(now, changes=(*recorded.changes, change))


def merged(first: RunInputs | None, folder: Path) -> RunInputs | None:
    """A checkpoint's inputs with the newest places that the run's folder knows.

    Raises:
        ConfigError: as :func:`read_inputs`.
    """
    own = read_inputs(folder)
    if first is None or own is None:
        return first or own
    return replace(first, places=first.places | own.places)


def state_entry(inputs: RunInputs) -> dict[str, Any]:
    """The entry of a checkpoint's state that :func:`inputs_in` reads, as JSON values."""
    return {ENTRY: json.loads(json.dumps(inputs.to_dict()))}
