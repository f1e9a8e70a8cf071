# SPDX-License-Identifier: Apache-2.0
"""A digest of an autoencoder's weights and latent statistics, written with them and compared."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

from safetensors import safe_open
from torch import Tensor

from pippin.encoders.affine import MEAN_KEY, STD_KEY
from pippin.encoders.source import WEIGHTS_FILE
from pippin.system.tensors import tensors_digest

DIGEST_KEY = "pippin.sha256"
"""In the metadata of a safetensors file. Those of others and of earlier versions have none."""


def autoencoder_digest(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> str:
    """64 hexadecimal digits over tensors, as they are in fp32, and latent statistics.

    Args:
        tensors: by name, in the number type of the file.
        metadata: of the file.
    """
    weights = tensors_digest({name: value.float() for name, value in tensors.items()})
    statistics = (metadata.get(MEAN_KEY, ""), metadata.get(STD_KEY, ""))
    return hashlib.sha256("\n".join((weights, *statistics)).encode()).hexdigest()


def check_autoencoder(folder: Path, recorded: str | None = None) -> None:
    """Refuse weights that are not those that were written, where a digest of them is known.

    Args:
        folder: with a whole safetensors file.
        recorded: the digest; None = the one in the file.

    Raises:
        ValueError: the digest is another one; the file is named.
    """
    path = folder / WEIGHTS_FILE
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata() or {}
        recorded = recorded or metadata.get(DIGEST_KEY)
        if recorded is None:
            return
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    if autoencoder_digest(tensors, metadata) != recorded:
        raise ValueError(
            f"{path} is damaged: the sha256 of its weights and latent statistics is not the "
            "recorded one; write or fetch the autoencoder again"
        )
