# SPDX-License-Identifier: Apache-2.0
"""Configuration that denoisers share, and the table of transformer sizes."""

from dataclasses import dataclass
from typing import Literal, NamedTuple

from pippin.config import Config, ConfigError, above, at_least


class Dimensions(NamedTuple):
    """Depth (blocks), width, number of attention heads."""

    depth: int
    width: int
    num_heads: int


# S to XL are DiT's (Peebles & Xie 2023, table 1); tiny is our choice for two CPU cores.
SIZES: dict["SizeName", Dimensions] = {
    "tiny": Dimensions(4, 128, 4),
    "S": Dimensions(12, 384, 6),
    "B": Dimensions(12, 768, 12),
    "L": Dimensions(24, 1024, 16),
    "XL": Dimensions(28, 1152, 16),
}
SizeName = Literal["tiny", "S", "B", "L", "XL"]


class DenoiserConfig(Config):
    """Base class of the configuration of every denoiser, see :mod:`pippin.denoisers.registry`.

    It is not a dataclass, so that each class determines the position of ``kind`` in a record.
    """

    kind: str  # of a denoiser: a literal with itself as default

    @property
    def side_multiple(self) -> int:
        """Number of which a latent's sides must be multiples: the patch size, if any."""
        return int(getattr(self, "patch_size", 1))


@dataclass(frozen=True, kw_only=True)
class TransformerConfig(DenoiserConfig):
    """Settings shared by all transformers over latent patches."""

    depth: int
    width: int
    num_heads: int
    patch_size: int = 2
    mlp_ratio: float = 4.0
    qk_norm: bool = False
    """RMS-normalise queries and keys of each head, with a learned gain."""
    base_grid: int | None = None
    """None: positions in unit steps. Otherwise the positions of every grid are scaled to 0 ..
    base_grid along each side, so that weights trained on that grid see the same range of positions
    (not for learned positions)."""

    def __post_init__(self) -> None:
        """Refuse widths that do not divide."""
        at_least(self, "denoiser", 1, "depth", "width", "num_heads", "patch_size", "base_grid")
        above(self, "denoiser", 0, "mlp_ratio")
        if self.width % self.num_heads or self.width % 4:
            raise ConfigError(
                "denoiser.width must be a multiple of 4 and of denoiser.num_heads; got "
                f"{self.width}, {self.num_heads} heads"
            )


def learns_variance(config: DenoiserConfig) -> bool:
    """True if the denoiser predicts a variance in addition to the mean."""
    return bool(getattr(config, "learn_variance", False))
