# SPDX-License-Identifier: Apache-2.0
"""The digest of an autoencoder inside the package, which lies beside its folder."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from pippin.encoders.affine import MEAN_KEY, STD_KEY
from pippin.encoders.source import WEIGHTS_FILE, read_metadata
from pippin.system.tensors import load_tensors, recorded_digest, tensors_digest


def autoencoder_digest(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> str:
    """SHA-256 over tensors, as they are in fp32, and latent statistics.

    Args:
        tensors: by name, in the number type of the file.
        metadata: of the file.
    """
    weights = tensors_digest({name: value.float() for name, value in tensors.items()})
    statistics = (metadata.get(MEAN_KEY, ""), metadata.get(STD_KEY, ""))
    return hashlib.sha256("\n".join((weights, *statistics)).encode()).hexdigest()


def check_shipped(folder: Path) -> None:
    """Refuse an autoencoder of the package that is not the one that was shipped.

    Raises:
        ValueError: its weights or latent statistics have another digest; the file is named.
    """
    path = folder / WEIGHTS_FILE
    if autoencoder_digest(load_tensors(path), read_metadata(folder)) != recorded_digest(folder):
        raise ValueError(
            f"{path} is damaged: the sha256 of its weights and latent statistics is not the "
            "recorded one; install pippin again"
        )
