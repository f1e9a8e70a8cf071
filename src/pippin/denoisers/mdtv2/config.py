# SPDX-License-Identifier: Apache-2.0
"""Configuration of MDTv2, and its sizes."""

from dataclasses import dataclass, replace
from typing import Any, Literal

from pippin.config import ConfigError
from pippin.denoisers.config import SIZES, SizeName, TransformerConfig
from pippin.settings.bounds import at_least


@dataclass(frozen=True, kw_only=True)
class MDTv2Config(TransformerConfig):
    """MDTv2, the masked diffusion transformer (Gao et al. 2023)."""

    kind: Literal["mdtv2"] = "mdtv2"
    grid: tuple[int, int]
    """Grid (rows, columns) of patches, for which positions are learned."""
    decoder_depth: int = 4
    """Number of blocks after the interpolater; of the others, half are the encoder's first and
    half its second part, and an odd one is omitted."""
    mask_ratio: float | None = 0.3
    """Smallest share of hidden tokens in the masked pass; None = no masked pass."""
    mask_ratio_range: float = 0.2
    """Largest increase of that share."""
    cross_attention: bool = False
    """As for DiT; our addition."""
    learn_variance: bool = False
    """As for DiT."""

    def __post_init__(self) -> None:
        """Refuse depths without an encoder, and mask ratios of 1 or more."""
        super().__post_init__()
        at_least(self, "denoiser", 1, "decoder_depth")
        if self.base_grid is not None:
            raise ConfigError(
                "denoiser.base_grid is for computed positions; mdtv2 learns its own for "
                "denoiser.grid, and init.transfer positions resamples them"
            )
        if self.depth - self.decoder_depth < 2:
            raise ConfigError(
                "denoiser.depth must exceed denoiser.decoder_depth by 2 or more, for an encoder; "
                f"got {self.depth} and {self.decoder_depth}"
            )
        if min(self.grid) < 1:
            raise ConfigError(f"denoiser.grid must be 1 or more each way; got {self.grid}")
        low = 0.0 if self.mask_ratio is None else self.mask_ratio
        if not (low >= 0 and self.mask_ratio_range >= 0 and low + self.mask_ratio_range < 1):
            raise ConfigError(
                "denoiser.mask_ratio and denoiser.mask_ratio_range must be 0 or more and sum to "
                f"less than 1; got {self.mask_ratio} and {self.mask_ratio_range}"
            )

    def with_tokens(self) -> "MDTv2Config":
        """The denoiser with cross-attention."""
        return replace(self, cross_attention=True)

    @property
    def token_blocks(self) -> int:
        """All blocks; an odd one of the encoder does not exist."""
        return self.depth - (self.depth - self.decoder_depth) % 2

    @property
    def masking_refusal(self) -> str:
        """Explain that it has a masked pass of its own."""
        return "hides tokens by its own denoiser.mask_ratio"

    @property
    def learned_grid(self) -> tuple[int, int]:
        """The grid of positions and of relative biases."""
        return self.grid

    def with_grid(self, side: int, base: int) -> "MDTv2Config":
        """Learned positions for a square of patches."""
        return replace(self, grid=(side, side))

    def check_grid(self, resolution: int, patches: int) -> None:
        """Refuse any other grid."""
        if self.grid != (patches, patches):
            rows, columns = self.grid
            raise ConfigError(
                f"data.resolution {resolution} has {patches} x {patches} patches, and "
                f"denoiser.grid is {rows} x {columns}: set denoiser.grid to {patches} {patches}, "
                "or another resolution"
            )


def mdtv2(size: SizeName, grid: tuple[int, int], **settings: Any) -> MDTv2Config:
    """MDTv2 of a named size, for a grid of patches."""
    if size == "tiny":
        settings = {"decoder_depth": 2} | settings
    return MDTv2Config(**SIZES[size]._asdict(), grid=grid, **settings)
