# SPDX-License-Identifier: Apache-2.0
"""Configurations of the averages of the weights."""

import math
from dataclasses import dataclass
from typing import Literal

from pippin.config import Config, ConfigError
from pippin.settings.bounds import above, at_least


@dataclass(frozen=True, kw_only=True)
class ImagesHalfLife(Config):
    """EMA half-life as a number of images."""

    kind: Literal["images"] = "images"
    images: int = 14_000_000
    """decay 0.9999 at batch 2048 is a half-life of 14.2 million images."""

    def __post_init__(self) -> None:
        """Refuse an average without memory."""
        at_least(self, "train.ema", 1, "images")

    @property
    def name(self) -> str:
        """Name of these weights, if they are a further average."""
        return f"ema-images-{self.images}"


@dataclass(frozen=True, kw_only=True)
class ShareHalfLife(Config):
    """EMA half-life as a share of the whole run, so that short runs keep a meaningful average."""

    kind: Literal["share"] = "share"
    share: float = 0.05

    def __post_init__(self) -> None:
        """Refuse an average without memory."""
        above(self, "train.ema", 0, "share")

    @property
    def name(self) -> str:
        """Name of these weights, if they are a further average."""
        return f"ema-share-{self.share}"


MAX_SIGMA_REL = 12**-0.5
"""Relative width of the plain mean of all weights, the widest power-function average."""


@dataclass(frozen=True, kw_only=True)
class PowerProfile(Config):
    """EMA that weighs the weights at n images by a power of n (Karras et al. 2024, arXiv
    2312.02696, section 3.1): its memory grows with the run, and initial weights have no share."""

    kind: Literal["power"] = "power"
    sigma_rel: float = 0.1
    """Width: standard deviation of the profile, as a share of the images seen."""

    def __post_init__(self) -> None:
        """Refuse a width that no profile has."""
        if not 0 < self.sigma_rel <= MAX_SIGMA_REL:
            raise ConfigError(
                f"train.ema.sigma_rel must be above 0 and at most {MAX_SIGMA_REL:.4f}, the width "
                f"of the plain mean of all weights; got {self.sigma_rel}"
            )

    @property
    def name(self) -> str:
        """Name of these weights, if they are a further average."""
        return f"ema-power-{self.sigma_rel}"


Average = ImagesHalfLife | ShareHalfLife | PowerProfile


def half_life(decay: float, batch_size: int) -> ImagesHalfLife:
    """EMA half-life in images of a decay per step."""
    return ImagesHalfLife(images=round(math.log(2) / -math.log(decay) * batch_size))
