# SPDX-License-Identifier: Apache-2.0
"""Inputs of a run beside its settings: the record of its data set and encoders, and its resolved
paths.

The record is part of the run's ``inputs.json``, of each checkpoint's state and of exports, so that
a trained model keeps its class names whatever happens to the folder of images. A run whose inputs
have changed resumes only with ``--allow-changed-data``, and never with other classes.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pippin.config import Config, ConfigError
from pippin.data.record import DataRecord, class_changes, decoder_change, image_changes
from pippin.recipes.recipe import Recipe
from pippin.runs.folder import INPUTS_FILE

STATE_KEY = "inputs"
"""Key in a checkpoint's state."""


UNRECORDED = "data before this were not recorded"
"""The recorded change of a model that an older version trained."""


@dataclass(frozen=True, kw_only=True)
class InputsChange(Config):
    """A resume on changed data, which the user allowed."""

    images_seen: int
    """Images that the run had seen when it resumed."""
    what: str


@dataclass(frozen=True, kw_only=True)
class RunInputs(Config):
    """Inputs of a run beside its settings."""

    FORMAT = "inputs"

    data: DataRecord
    autoencoder: str
    """Fingerprint of its weights."""
    text_encoder: str | None = None
    """Fingerprint of its files; None for a model that reads no text."""
    null_mask: tuple[bool, ...] | None = None
    """Own tokens of the null caption, where the model attends to these only; the features of the
    null caption are among the weights."""
    places: dict[str, str] = field(default_factory=dict)
    """Setting -> absolute path at that time, see :mod:`pippin.runs.folder`."""
    changes: tuple[InputsChange, ...] = ()
    """Resumes on changed data, oldest first."""


def read_inputs(folder: Path) -> RunInputs | None:
    """Read the record in a run's folder; None for runs of versions that kept no inputs.

    Raises:
        ConfigError: the file is damaged.
    """
    path = folder / INPUTS_FILE
    return RunInputs.load(path) if path.exists() else None


def inputs_in(values: Mapping[str, Any], source: str) -> RunInputs | None:
    """Read the record in a checkpoint's state; None where it has none.

    Args:
        values: the state.
        source: name of the checkpoint for messages.

    Raises:
        ConfigError: the record cannot be read.
    """
    if values.get(STATE_KEY) is None:
        return None
    try:
        return RunInputs.from_dict(values[STATE_KEY])
    except ConfigError as error:
        raise ConfigError(f"{source}: its record of the data cannot be read: {error}") from error


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
    """Differences between the recorded and the current inputs of a run."""

    classes: str = ""
    """Ids that mean another class; empty for models that read none."""
    autoencoder: str = ""
    images: str = ""
    """Images, captions, or the text encoder's files."""
    decoder: str = ""

    @classmethod
    def between(
        cls, recorded: RunInputs, now: RunInputs, recipe: Recipe, *others: Recipe
    ) -> "Differences":
        """Differences in inputs that the models of all recipes read."""
        recipes = (recipe, *others)
        classes = class_changes(recorded.data.class_names, now.data.class_names)
        shared = [
            kind
            for kind in captions_read(recipe)
            if all(kind in captions_read(other) for other in others)
        ]
        images = image_changes(recorded.data, now.data, shared)
        sources = {one.text.source if reads_text(one) else None for one in recipes}
        same_source = len(sources) == 1  # of none, too
        if same_source and recorded.text_encoder != now.text_encoder:
            files = f"the files of text.source differ ({recorded.text_encoder} before, "
            images = "; ".join(filter(None, [images, f"{files}{now.text_encoder} now)"]))
        same_autoencoder = recorded.autoencoder == now.autoencoder
        return cls(
            classes=classes if all(map(reads_classes, recipes)) else "",
            autoencoder=""
            if same_autoencoder
            else f"its fingerprint is {now.autoencoder}, recorded is {recorded.autoencoder}",
            images=images,
            decoder=decoder_change(recorded.data, now.data),
        )


def inputs_after_resume(
    recorded: RunInputs,
    now: RunInputs,
    recipe: Recipe,
    *,
    source: str,
    images_seen: int,
    allow_changed_data: bool,
) -> RunInputs:
    """The inputs of a run that resumes, with an allowed change on record.

    Args:
        recorded: inputs of the checkpoint.
        now: current inputs.
        recipe: of the run.
        source: the run, for messages.
        images_seen: images seen at the checkpoint.
        allow_changed_data: resume with changed images.

    Raises:
        ValueError: class ids would mean other classes, latents would come from another
            autoencoder, or images changed and that is not allowed.
    """
    differences = Differences.between(recorded, now, recipe)
    data = now.places.get("data.path") or f"data.kind {now.data.kind}"
    if differences.classes:
        raise ValueError(
            f"{source} was trained on other classes than {data} has: {differences.classes}. "
            "Its class ids would mean other classes, so it cannot be resumed: restore the class "
            "names, or give the folder that has them with --data.path; a new run may start from "
            f"its weights (--init.run {source} --init.transfer classes --folder ANOTHER)"
        )
    if differences.autoencoder:
        raise ValueError(
            f"{source} was trained on latents of another autoencoder than autoencoder.source "
            f"{recipe.autoencoder.source} is: {differences.autoencoder}. Restore the autoencoder "
            "that it was trained with, or train in another --folder"
        )
    if differences.images and not allow_changed_data:
        raise ValueError(
            f"{source} was trained on other data than {data} holds: {differences.images}. "
            "Resuming would change the run: restore the data, give its folder with "
            "--data.path, or resume on the changed data with --allow-changed-data True, which the "
            "run's record will say"
        )
    if not differences.images:
        return replace(now, changes=recorded.changes)
    change = InputsChange(images_seen=images_seen, what=differences.images)
    return replace(now, changes=(*recorded.changes, change))


def with_folder_paths(inputs: RunInputs | None, folder: Path) -> RunInputs | None:
    """A checkpoint's inputs with the newest paths that the run's folder records.

    Raises:
        ConfigError: as :func:`read_inputs`.
    """
    own = read_inputs(folder)
    if inputs is None or own is None:
        return inputs or own
    return replace(inputs, places=inputs.places | own.places)


def state_entry(inputs: RunInputs) -> dict[str, Any]:
    """The entry of a checkpoint's state that :func:`inputs_in` reads, as JSON values."""
    return {STATE_KEY: json.loads(json.dumps(inputs.to_dict()))}
