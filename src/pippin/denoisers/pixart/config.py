# SPDX-License-Identifier: Apache-2.0
"""Configuration of PixArt-alpha, and its sizes."""

from dataclasses import dataclass
from typing import Any, Literal

from pippin.denoisers.config import SIZES, SizeName, TransformerConfig
from pippin.settings.bounds import above


@dataclass(frozen=True, kw_only=True)
class PixArtConfig(TransformerConfig):
    """PixArt-alpha, with adaLN-single (Chen et al. 2023)."""

    kind: Literal["pixart"] = "pixart"
    interpolation: float = 1.0
    """Divisor of the positions."""
    learn_variance: bool = False
    """As for DiT."""

    def __post_init__(self) -> None:
        """Refuse a divisor of 0 or less."""
        super().__post_init__()
        above(self, "denoiser", 0, "interpolation")


def pixart(size: SizeName, **settings: Any) -> PixArtConfig:
    """PixArt-alpha of a named size; only XL is published."""
    return PixArtConfig(**SIZES[size]._asdict(), **settings)
