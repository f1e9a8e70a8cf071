# SPDX-License-Identifier: Apache-2.0
"""Configuration of autoencoders and of the training of our own."""

from dataclasses import dataclass, field
from typing import Literal

from pippin.config import NOT_PROTOCOL, Config, ConfigError


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
    """Training of a small KL autoencoder. Lengths are counted in images."""

    images: int = 24_000
    """Length of the run."""
    batch_size: int = 4
    learning_rate: float = 2e-2
    """Of convolutions' weights (Muon)."""
    vector_learning_rate: float = 3e-3
    """Of biases and normalisation gains (Adam)."""
    warmup_images: int = 1_000
    """Linear warm-up of both rates; afterwards they decay to zero as a cosine."""
    grad_clip: float = 1.0
    """Largest norm of the gradient."""
    ema_share: float = 0.02
    """Half-life of the averaged weights, as a share of the run."""
    kl_weight: float = 3e-4
    """Of the KL divergence per latent number, against the mean absolute error of pixels."""
    scale_weight: float = 0.0
    """Of the error of decoding latents that were pooled 2 x 2, against pooled pixels; 0 = none."""
    block_channels: tuple[int, ...] = (8, 16, 32)
    """Channels at each resolution; n entries make the factor 2 ** (n - 1)."""
    layers_per_block: int = 1
    norm_groups: int = 1
    """Of every group normalisation; divides all of ``block_channels``."""
    latent_channels: int = 4
    seed: int = 0
    precision: Literal["fp32", "bf16"] = "fp32"
    """bf16: autocast of convolutions. Slower than fp32 on a CPU without bf16 units."""
    device: str = field(default="auto", metadata=NOT_PROTOCOL)
    log_every: int = field(default=400, metadata=NOT_PROTOCOL)
    """Images between log lines."""
    checkpoint_every: int = field(default=5_000, metadata=NOT_PROTOCOL)
    """Images between checkpoints; the last step always writes one."""

    def __post_init__(self) -> None:
        """Refuse what cannot be built or trained."""
        if self.images < 1 or self.batch_size < 1:
            raise ConfigError(
                f"images and batch_size must be at least 1; got {self.images}, {self.batch_size}"
            )
        if not self.block_channels or any(c % self.norm_groups for c in self.block_channels):
            raise ConfigError(
                "every number in block_channels must be a multiple of norm_groups; got "
                f"{self.block_channels} and {self.norm_groups}"
            )
