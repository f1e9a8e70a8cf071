# SPDX-License-Identifier: Apache-2.0
"""Configurations of denoisers, and the table of their sizes."""

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

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


@dataclass(frozen=True, kw_only=True)
class DiTConfig(TransformerConfig):
    """DiT with adaLN-zero (Peebles & Xie 2023)."""

    kind: Literal["dit"] = "dit"
    cross_attention: bool = False
    """Add cross-attention to condition tokens in every block (the paper's section 3.2 variant,
    with adaLN-zero kept for time and control)."""
    learn_variance: bool = False
    """Double the output channels: the second half is the variance's interpolation coefficient."""


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


@dataclass(frozen=True, kw_only=True)
class UNetConfig(DenoiserConfig):
    """UNet of latent diffusion (Rombach et al. 2022)."""

    kind: Literal["unet"] = "unet"
    channels: int
    """Channels at the first level."""
    channel_multiples: tuple[int, ...]
    """Multiples of ``channels`` at each level; each level halves the sides."""
    blocks_per_level: int = 2
    """Residual blocks per level of the down path; the up path has one more."""
    attention_factors: tuple[int, ...]
    """Downsampling factors (1, 2, 4, ...) of the levels with attention; the middle always has
    attention."""
    token_width: int
    """Width of condition tokens."""
    num_heads: int | None = 8
    """Number of heads of each attention; or give ``head_width``."""
    head_width: int | None = None
    transformer_depth: int = 1
    """Transformer blocks per spatial transformer."""
    norm_groups: int = 32
    """Groups of every group normalisation."""
    qk_norm: bool = False
    """As for transformers."""

    def __post_init__(self) -> None:
        """Refuse channels that do not divide."""
        at_least(self, "denoiser", 1, "channels", "blocks_per_level", "token_width", "norm_groups")
        at_least(self, "denoiser", 1, "num_heads", "head_width", "transformer_depth")
        if (self.num_heads is None) == (self.head_width is None):
            raise ConfigError(
                "give one of denoiser.num_heads and denoiser.head_width, None for the other; got "
                f"{self.num_heads} and {self.head_width}"
            )
        if not self.channel_multiples or min(self.channel_multiples) < 1:
            raise ConfigError(
                f"denoiser.channel_multiples must be 1 or more; got {self.channel_multiples}"
            )
        for channels in (self.channels, *(self.channels * m for m in self.channel_multiples)):
            if channels % self.norm_groups or channels % (self.num_heads or self.head_width or 1):
                raise ConfigError(
                    f"{channels} channels are not a multiple of denoiser.norm_groups "
                    f"({self.norm_groups}) and of the heads; change denoiser.channels"
                )

    @property
    def side_multiple(self) -> int:
        """Total downsampling factor: each level halves the sides."""
        return 2 ** (len(self.channel_multiples) - 1)

    @property
    def modulation_width(self) -> int:
        """Width of modulation: four times the channels, as published."""
        return 4 * self.channels

    def heads_for(self, channels: int) -> int:
        """Number of attention heads for a number of channels."""
        return self.num_heads or channels // (self.head_width or channels)


def learns_variance(config: DenoiserConfig) -> bool:
    """True if the denoiser predicts a variance in addition to the mean."""
    return bool(getattr(config, "learn_variance", False))


def dit(size: SizeName, **settings: Any) -> DiTConfig:
    """DiT of a named size."""
    return DiTConfig(**SIZES[size]._asdict(), **settings)


def mdtv2(size: SizeName, grid: tuple[int, int], **settings: Any) -> MDTv2Config:
    """MDTv2 of a named size, for a grid of patches."""
    if size == "tiny":
        settings = {"decoder_depth": 2} | settings
    return MDTv2Config(**SIZES[size]._asdict(), grid=grid, **settings)


def pixart(size: SizeName, **settings: Any) -> PixArtConfig:
    """PixArt-alpha of a named size; only XL is published."""
    return PixArtConfig(**SIZES[size]._asdict(), **settings)


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


# LDM-4 is the class-conditional UNet of latent diffusion, SD1 Stable Diffusion 1's (CompVis'
# configurations cin256-v2 and v1-inference). The others are our choices: tiny for two CPU cores, S
# to XL of SD1's form, as near to the parameters of DiT's sizes as groups of 32 channels allow.
UNET_SIZES: dict[str, dict[str, Any]] = {
    "tiny": {
        "channels": 32,
        "channel_multiples": (1, 2),
        "attention_factors": (1, 2),
        "token_width": 128,
        "num_heads": 4,
        "norm_groups": 8,
    },
    "LDM-4": {
        "channels": 192,
        "channel_multiples": (1, 2, 3, 5),
        "attention_factors": (2, 4, 8),
        "token_width": 512,
        "num_heads": 1,
    },
    "SD1": {
        "channels": 320,
        "channel_multiples": (1, 2, 4, 4),
        "attention_factors": (1, 2, 4),
        "token_width": 768,
        "num_heads": 8,
    },
    **{
        size: {
            "channels": channels,
            "channel_multiples": (1, 2, 4, 4),
            "attention_factors": (1, 2, 4),
            "token_width": 768,
            "num_heads": None,
            "head_width": 32,
        }
        for size, channels in {"S": 64, "B": 128, "L": 224, "XL": 288}.items()
    },
}
UNetSizeName = Literal["tiny", "S", "B", "L", "XL", "LDM-4", "SD1"]


def unet(size: UNetSizeName, **settings: Any) -> UNetConfig:
    """UNet of a named size."""
    return UNetConfig(**UNET_SIZES[size] | settings)
