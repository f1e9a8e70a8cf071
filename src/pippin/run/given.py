# SPDX-License-Identifier: Apache-2.0
"""What a run is given beside its settings, as it is now: for its record and for protocols."""

from typing import Any

from pippin.data.config import ImagesConfig
from pippin.run.inputs import RunInputs, captions_read
from pippin.run.parts import Parts
from pippin.run.places import places_of


def current_inputs(parts: Parts) -> RunInputs:
    """The record of a training that begins now."""
    return RunInputs(
        data=parts.data_record,
        autoencoder=parts.raw_autoencoder.fingerprint,
        text_encoder=parts.text_fingerprint if parts.text_rule else None,
        places=places_of(parts.located),
    )


def images_protocol(parts: Parts) -> dict[str, Any]:
    """What a protocol says of the images of a folder; those of the package are known by the
    settings alone.

    Raises:
        ValueError: see :attr:`pippin.run.parts.Parts.train_source`.
    """
    _ = parts.train_source  # which compares it with a trained model's
    if not isinstance(parts.data, ImagesConfig):
        return {}
    record = parts.data_record
    found: dict[str, Any] = {
        "data.train": record.train.content,
        "data.held_out": record.held_out.content,
    }
    if kinds := captions_read(parts.recipe):
        both = (record.train.captions, record.held_out.captions)
        found["data.captions"] = [split.get(kind) for split in both for kind in kinds]
    return found


def data_protocol(parts: Parts) -> dict[str, Any]:
    """The same, and where these images, or those that a model was trained on, are not the same
    throughout, that.

    Raises:
        ValueError: as :func:`images_protocol`.
    """
    found = images_protocol(parts)
    if parts.known is None:
        return found
    return found | parts.known.protocol(parts.data_record, parts.recipe)
