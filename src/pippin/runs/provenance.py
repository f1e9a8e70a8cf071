# SPDX-License-Identifier: Apache-2.0
"""Current inputs of a run beside its settings, for its record and for protocols."""

from typing import Any

from pippin.data.config import ImagesConfig
from pippin.runs.components import Components
from pippin.runs.folder import resolved_paths
from pippin.runs.inputs import RunInputs, captions_read


def current_inputs(components: Components) -> RunInputs:
    """The inputs of a training that starts now."""
    return RunInputs(
        data=components.data_record,
        autoencoder=components.raw_autoencoder.fingerprint,
        text_encoder=components.text_fingerprint if components.text_rule else None,
        places=resolved_paths(components.located),
    )


def images_protocol(components: Components) -> dict[str, Any]:
    """Protocol entries of a custom data set; settings alone identify the images of the package.

    Raises:
        ValueError: see :attr:`pippin.runs.components.Components.train_source`.
    """
    _ = components.train_source  # compares it with a trained model's
    if not isinstance(components.data, ImagesConfig):
        return {}
    record = components.data_record
    entries: dict[str, Any] = {
        "data.train": record.train.content,
        "data.held_out": record.held_out.content,
    }
    if kinds := captions_read(components.recipe):
        both = (record.train.captions, record.held_out.captions)
        entries["data.captions"] = [split.get(kind) for split in both for kind in kinds]
    return entries


def data_protocol(components: Components) -> dict[str, Any]:
    """The same, with entries on the training data of a model where these differ or changed.

    Raises:
        ValueError: as :func:`images_protocol`.
    """
    entries = images_protocol(components)
    if components.training_record is None:
        return entries
    return entries | components.training_record.protocol(components.data_record, components.recipe)
