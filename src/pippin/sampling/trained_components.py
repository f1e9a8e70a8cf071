# SPDX-License-Identifier: Apache-2.0
"""Components and inputs of a trained model, with the paths that hold today."""

from dataclasses import replace

from rich.console import Console

from pippin.data.record import image_changes
from pippin.encoders.config import AutoencoderConfig
from pippin.encoders.text import encoder_fingerprint
from pippin.recipes.recipe import Recipe
from pippin.runs.components import Components
from pippin.runs.folder import AUTOENCODER, DATA, locate, unchanged_paths, with_data_path
from pippin.runs.inputs import UNRECORDED, InputsChange, RunInputs, captions_read
from pippin.runs.provenance import current_inputs
from pippin.runs.trained import Trained
from pippin.runs.training_record import TrainingRecord


def trained_components(
    trained: Trained,
    recipe: Recipe,
    console: Console,
    data_path: str | None,
    autoencoder: str | None,
) -> Components:
    """The components of a trained model, with resolved paths."""
    places = unchanged_paths(recipe, trained.recipe, trained.places)
    for setting, override in ((DATA, data_path), (AUTOENCODER, autoencoder)):
        if override is not None:
            places.pop(setting, None)
    located = with_data_path(locate(recipe, places), data_path)
    if autoencoder is not None:
        normalisation = located.autoencoder.normalisation
        replaced = AutoencoderConfig(source=autoencoder, normalisation=normalisation)
        located = replace(located, autoencoder=replaced)
    record = TrainingRecord(
        source=trained.source,
        inputs=trained.inputs,
        num_classes=trained.num_classes,
        places=places,
        autoencoder_overridden=autoencoder is not None,
    )
    if recipe.text != trained.recipe.text and _is_same_encoder(trained, located):
        recipe = replace(recipe, text=trained.recipe.text)
    # Settings outside the protocol keep their resolved paths.
    recipe = replace(recipe, evaluation=located.evaluation)
    return Components(
        recipe, console, located=located, training_record=record, latents=trained.latents
    )


def _is_same_encoder(trained: Trained, located: Recipe) -> bool:
    """Whether a given text encoder has the recorded files in another folder."""
    fingerprint = None if trained.inputs is None else trained.inputs.text_encoder
    return fingerprint is not None and encoder_fingerprint(located.text) == fingerprint


def inputs_in_folder(trained: Trained, data_path: str, console: Console) -> RunInputs:
    """The inputs of a trained model whose images are in a given folder.

    Args:
        trained: a model of any version; for one without recorded names, the folder's names count.
        data_path: the folder.
        console: for messages.

    Raises:
        ValueError: the folder has other images, or another number of classes.
    """
    components = trained_components(trained, trained.recipe, console, data_path, None)
    _ = components.train_source  # compares the classes
    now = current_inputs(components)
    if trained.inputs is None:
        change = InputsChange(images_seen=trained.images_seen, what=UNRECORDED)
        return replace(now, changes=(change,))
    changes = image_changes(trained.inputs.data, now.data, captions_read(trained.recipe))
    if changes:
        raise ValueError(
            f"--data.path {data_path} is not what {trained.source} was trained on: {changes}; "
            "give the folder that is, or leave it out: an export needs no images"
        )
    return replace(trained.inputs, places=trained.inputs.places | now.places)
