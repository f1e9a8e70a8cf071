# SPDX-License-Identifier: Apache-2.0
"""Configuration of the denoisers and the table of their sizes."""

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from pippin.config import Config, ConfigError, above, at_least


class Dimensions(NamedTuple):
    """depth (blocks), width, number of attention heads."""

    depth: int
    width: int
    num_heads: int


# S to XL are DiT's (Peebles & Xie 2023, table 1); tiny is ours, for two CPU cores.
SIZES = {
    "tiny": Dimensions(4, 128, 4),
    "S": Dimensions(12, 384, 6),
    "B": Dimensions(12, 768, 12),
    "L": Dimensions(24, 1024, 16),
    "XL": Dimensions(28, 1152, 16),
}
SizeName = Literal["tiny", "S", "B", "L", "XL"]


@dataclass(frozen=True, kw_only=True)
class TransformerConfig(Config):
    """What all transformers over latent patches share."""

    depth: int
    width: int
    num_heads: int
    patch_size: int = 2
    mlp_ratio: float = 4.0
    qk_norm: bool = False
    """RMS-normalise queries and keys of each head, with a learned gain."""

    def __post_init__(self) -> None:
        """Refuse widths that do not divide."""
        at_least(self, "denoiser", 1, "depth", "width", "num_heads", "patch_size")
        above(self, "denoiser", 0, "mlp_ratio")
        if self.width % self.num_heads or self.width % 4:
            raise ConfigError(
                "denoiser.width must be a multiple of 4 and of denoiser.num_heads; got "
                f"{self.width}, {self.num_heads} heads"
            )


@dataclass(frozen=True, kw_only=True)
class DiTConfig(TransformerConfig):
    """DiT with adaLN-zero (Peebles & Xie 2023)."""

    kind: Literal["dit"] = "dit"
    cross_attention: bool = False
    """Add a cross-attention to condition tokens in every block (the paper's section 3.2 variant,
    with adaLN-zero kept for time and control)."""
    learn_variance: bool = False
    """Twice the output channels: the second half is the variance's interpolation coefficient."""


@dataclass(frozen=True, kw_only=True)
class MMDiTConfig(TransformerConfig):
    """mmDiT, the joint-attention transformer of SD3 (Esser et al. 2024)."""

    kind: Literal["mmdit"] = "mmdit"
    qk_norm: bool = True


DenoiserConfig = DiTConfig | MMDiTConfig


def dit(size: SizeName, **settings: Any) -> DiTConfig:
    """DiT of a named size."""
    return DiTConfig(**SIZES[size]._asdict(), **settings)


def mmdit(size: SizeName, **settings: Any) -> MMDiTConfig:
    """mmDiT of a named size."""
    return MMDiTConfig(**SIZES[size]._asdict(), **settings)
