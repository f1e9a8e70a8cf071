# SPDX-License-Identifier: Apache-2.0
"""Configuration of REPA (Yu et al. 2024, arXiv 2410.06940) and of iREPA's variant (Singh et al.
2025, arXiv 2512.10794)."""

from dataclasses import dataclass, fields
from typing import Literal

from pippin.config import Config, ConfigError
from pippin.settings.bounds import at_least


@dataclass(frozen=True, kw_only=True)
class RepaConfig(Config):
    """REPA: an auxiliary loss that aligns the tokens of one block with the features of a frozen
    image encoder, of the clean view. Its projector is trained with the model and not sampled."""

    encoder: Literal["none", "efflite0", "dinov2"] = "none"
    """Frozen encoder. none: no such loss. efflite0: EfficientNet-lite0, whose weights are
    installed. dinov2: patch tokens of the model that source names, as published."""
    source: str | None = None
    """For dinov2, a local folder or hub name in transformers' format, such as
    facebook/dinov2-base."""
    block: int = 8
    """Number of the aligned block, from 1; published: 8 of 28."""
    weight: float = 0.5
    """Weight of the loss, which is the negative cosine similarity."""
    projector: Literal["mlp", "conv"] = "mlp"
    """Projector from the model's width to the encoder's. mlp: three linear layers with SiLU
    between them. conv: one 3 x 3 convolution (iREPA)."""
    hidden_width: int = 2048
    """Width inside the mlp projector."""
    spatial_norm: float | None = None
    """None: features as they are. Otherwise each of them loses so many times its mean over the
    tokens of the image and is divided by its deviation over them (iREPA: 0.6)."""

    def __post_init__(self) -> None:
        """Refuse settings without an effect, and a source that the encoder does not fit."""
        at_least(self, "train.repa", 1, "block", "hidden_width")
        at_least(self, "train.repa", 0, "weight", "spatial_norm")
        changed = [f.name for f in fields(self) if getattr(self, f.name) != f.default]
        if self.encoder == "none" and changed:
            raise ConfigError(
                f"train.repa.{changed[0]} has no effect while train.repa.encoder is none; got "
                f"{getattr(self, changed[0])}: set --train.repa.encoder efflite0 or dinov2, or "
                "leave it out"
            )
        if (self.encoder == "dinov2") != bool(self.source):
            raise ConfigError(
                "train.repa.source names the model of train.repa.encoder dinov2, and of no other; "
                f"got encoder {self.encoder}, source {self.source}: give a folder or hub name, "
                "such as --train.repa.source facebook/dinov2-base, with dinov2 only"
            )

    @property
    def enabled(self) -> bool:
        """Whether the loss is computed."""
        return self.encoder != "none"

    @property
    def needs_grid(self) -> bool:
        """Whether the projector reads the tokens of the whole grid, each with its neighbours."""
        return self.enabled and self.projector != "mlp"


NO_REPA = RepaConfig()
NO_IMAGES = (
    "train.repa needs the images, and those of this folder are encoded from shards without "
    "unpacking: set --train.repa.encoder none, or import the images (pippin data import)"
)
"""Message where no image can be encoded."""
