# SPDX-License-Identifier: Apache-2.0
"""Configuration of autoencoders and of the training of our own."""

from dataclasses import dataclass, field
from typing import Literal

from pippin.config import NOT_PROTOCOL, Config


@dataclass(frozen=True, kw_only=True)
class AutoencoderConfig(Config):
    """Which autoencoder turns pixels into latents."""

    source: str = "pippin/openmoji-f4"
    """A name that starts with pippin/ is shipped in the package; otherwise a local folder or a hub
    name in diffusers' AutoencoderKL format."""
    revision: str | None = None
    """Hub revision."""


@dataclass(frozen=True, kw_only=True)
class AutoencoderTrainConfig(Config):
    """Training of a small KL autoencoder."""

    images: int = 200_000
    batch_size: int = 32
    learning_rate: float = 1e-3
    warmup_images: int = 2_000
    kl_weight: float = 1e-4
    """Of the KL divergence per latent number, against a per-pixel loss."""
    perceptual_weight: float = 0.05
    block_channels: tuple[int, ...] = (16, 32, 64)
    layers_per_block: int = 1
    latent_channels: int = 4
    seed: int = 0
    device: str = field(default="auto", metadata=NOT_PROTOCOL)
    precision: Literal["fp32", "bf16"] = "fp32"
