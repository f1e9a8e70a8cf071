# SPDX-License-Identifier: Apache-2.0
"""Current inputs of a run beside its settings, for its record and for protocols."""

from typing import Any

from pippin.data.config import ImagesConfig
from pippin.runs.components import Parts
from pippin.runs.folder import resolved_paths
from pippin.runs.inputs import RunInputs, captions_read


def current_inputs(parts: Parts) -> RunInputs:
    """The inputs of a training that starts now."""
    return RunInputs(
        data=parts.data_record,
        autoencoder=parts.raw_autoencoder.fingerprint,
        text_encoder=parts.text_fingerprint if parts.text_rule else None,
        places=resolved_paths(parts.located),
    )


def images_protocol(parts: Parts) -> dict[str, Any]:
    """Protocol entries of a custom data set; settings alone identify the images of the package.

    Raises:
        ValueError: see :attr:`pippin.runs.components.Parts.train_source`.
    """
    _ = parts.train_source  # compares it with a trained model's
    if not isinstance(parts.data, ImagesConfig):
        return {}
    record = parts.data_record
    entries: dict[str, Any] = {
        "data.train": record.train.content,
        "data.held_out": record.held_out.content,
    }
    if kinds := captions_read(parts.recipe):
        both = (record.train.captions, record.held_out.captions)
        entries["data.captions"] = [split.get(kind) for split in both for kind in kinds]
    return entries


def data_protocol(parts: Parts) -> dict[str, Any]:
    """The same, with entries on the training data of a model where these differ or changed.

    Raises:
        ValueError: as :func:`images_protocol`.
    """
    entries = images_protocol(parts)
    if parts.training_record is None:
        return entries
    return entries | parts.training_record.protocol(parts.data_record, parts.recipe)
