# SPDX-License-Identifier: Apache-2.0
"""Digest of an autoencoder that pippin ships: weights, latent statistics and configuration."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from pippin.encoders.normalisation import MEAN_KEY, STD_KEY
from pippin.encoders.source import WEIGHTS_FILE, read_config, read_metadata
from pippin.system.formats import content_digest
from pippin.system.tensors import load_tensors, recorded_digest, tensors_digest


def shipped_digest(folder: Path) -> str:
    """SHA-256 of an autoencoder's folder: tensors in fp32, latent statistics, and the values of
    config.json in any order.

    Raises:
        ValueError: a file is damaged.
    """
    metadata = read_metadata(folder)
    return hashlib.sha256(
        "\n".join(
            (
                autoencoder_digest(load_tensors(folder / WEIGHTS_FILE), metadata),
                content_digest(read_config(folder)),
            )
        ).encode()
    ).hexdigest()


def autoencoder_digest(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> str:
    """SHA-256 of tensors in fp32 and latent statistics.

    Args:
        tensors: name -> tensor, in the dtype of the file.
        metadata: metadata of the file.
    """
    weights = tensors_digest({name: value.float() for name, value in tensors.items()})
    statistics = (metadata.get(MEAN_KEY, ""), metadata.get(STD_KEY, ""))
    return hashlib.sha256("\n".join((weights, *statistics)).encode()).hexdigest()


def check_shipped(folder: Path) -> None:
    """Check that an autoencoder of the package is the one that was shipped.

    Raises:
        ValueError: weights, latent statistics or config.json have another digest; the message
            names the folder.
    """
    if shipped_digest(folder) != recorded_digest(folder):
        raise ValueError(
            f"{folder} is damaged: the sha256 of its weights, latent statistics and config.json "
            "is not the recorded one; install pippin again"
        )
