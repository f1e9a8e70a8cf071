# SPDX-License-Identifier: Apache-2.0
"""Configuration of mmDiT, and its sizes."""

from dataclasses import dataclass
from typing import Any, Literal

from pippin.config import ConfigError
from pippin.denoisers.config import SIZES, SizeName, TransformerConfig
from pippin.settings.bounds import at_least


@dataclass(frozen=True, kw_only=True)
class MMDiTConfig(TransformerConfig):
    """mmDiT, the joint-attention transformer of SD3 (Esser et al. 2024)."""

    kind: Literal["mmdit"] = "mmdit"
    qk_norm: bool = True
    table_side: int | None = None
    """None: positions in unit steps, from the upper left. Otherwise the side of a square table of
    positions, of which a grid reads the centre (SD3)."""

    def __post_init__(self) -> None:
        """Refuse an empty table, and two definitions of positions."""
        super().__post_init__()
        at_least(self, "denoiser", 1, "table_side")
        if self.table_side is not None and self.base_grid is not None:
            raise ConfigError(
                "denoiser.table_side and denoiser.base_grid both define positions; give only one "
                f"of them; got {self.table_side} and {self.base_grid}"
            )

    def check_grid(self, resolution: int, patches: int) -> None:
        """Refuse more patches than the table has rows."""
        if patches > (self.table_side or patches):
            raise ConfigError(
                f"data.resolution {resolution} has {patches} patches a side, and "
                f"denoiser.table_side is {self.table_side}: set it to {patches} or more, or a "
                "smaller resolution"
            )

    def check_bucket(self, name: str, patches: int) -> None:
        """Refuse more patches than the table has rows."""
        if patches > (self.table_side or patches):
            raise ConfigError(
                f"the bucket {name} has {patches} patches along its longer side, and "
                f"denoiser.table_side is {self.table_side}: set it to as many, or leave the ratio "
                "out of data.aspect_ratios"
            )


Match = Literal["shape", "parameters", "flops"]
# A block of mmDiT has two streams and so twice the parameters of DiT's. With few condition tokens
# its FLOPs are equal, with the 154 of SD3's text about 1.6 times as many (at 256 image tokens).
MMDIT_DEPTHS: dict[Match, dict[SizeName, int]] = {
    "shape": {size: dimensions.depth for size, dimensions in SIZES.items()},
    "parameters": {"tiny": 2, "S": 6, "B": 6, "L": 12, "XL": 14},
    "flops": {"tiny": 2, "S": 7, "B": 8, "L": 15, "XL": 17},
}


def mmdit(size: SizeName, match: Match = "shape", **settings: Any) -> MMDiTConfig:
    """mmDiT of a named size.

    Args:
        size: size of the DiT to compare with.
        match: ``shape`` has that DiT's depth and width; the others have its width, and the number
            of blocks nearest to its parameters, or to its FLOPs with 154 text tokens (our choice).
        settings: further settings of :class:`MMDiTConfig`.
    """
    dimensions = SIZES[size]._replace(depth=MMDIT_DEPTHS[match][size])
    return MMDiTConfig(**dimensions._asdict(), **settings)
