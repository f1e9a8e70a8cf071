# SPDX-License-Identifier: Apache-2.0
"""Configuration of representation autoencoders (Zheng et al. 2025, arXiv 2510.11690)."""

from dataclasses import dataclass, fields
from typing import Literal

from pippin.config import Config, ConfigError
from pippin.settings.bounds import at_least


@dataclass(frozen=True, kw_only=True)
class RepresentationConfig(Config):
    """Representation autoencoder (RAE): latents are the patch features of a frozen encoder, and
    only the decoder is trained."""

    encoder: Literal["none", "efflite0", "transformers"] = "none"
    """Frozen encoder. none: the encoder is trained, as in a KL autoencoder. efflite0: features of
    EfficientNet-lite0 at stride 16, whose weights are installed. transformers: patch tokens of
    the model that source names."""
    source: str | None = None
    """For transformers, a local folder or hub name of a DINOv2, with or without registers, a
    SigLIP vision model or a ViT-MAE, such as facebook/dinov2-with-registers-base."""
    noise: float = 0.8
    """tau: the decoder reads z + sigma n, with n ~ N(0, I) and sigma ~ |N(0, tau^2)| for each
    image, so that it decodes samples that are a little off; 0 = clean latents."""

    def __post_init__(self) -> None:
        """Refuse settings without an effect, and a source that the encoder does not fit."""
        at_least(self, "train.representation", 0, "noise")
        changed = [f.name for f in fields(self) if getattr(self, f.name) != f.default]
        if self.encoder == "none" and changed:
            raise ConfigError(
                f"train.representation.{changed[0]} has no effect while "
                f"train.representation.encoder is none; got {getattr(self, changed[0])}: set "
                "--train.representation.encoder efflite0 or transformers, or leave it out"
            )
        if (self.encoder == "transformers") != bool(self.source):
            raise ConfigError(
                "train.representation.source names the model of train.representation.encoder "
                f"transformers, and of no other; got encoder {self.encoder}, source "
                f"{self.source}: give a folder or hub name, such as --train.representation.source "
                "facebook/dinov2-with-registers-base, with transformers only"
            )

    @property
    def enabled(self) -> bool:
        """Whether the encoder is frozen."""
        return self.encoder != "none"


NO_REPRESENTATION = RepresentationConfig()
