# SPDX-License-Identifier: Apache-2.0
"""Configuration of the UNet, and its sizes."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from pippin.config import ConfigError
from pippin.denoisers.config import DenoiserConfig
from pippin.settings.bounds import at_least


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
    def shape_text(self) -> str:
        """Channels at the first level."""
        return f"{self.channels} channels"

    @property
    def dynamic_shapes(self) -> bool:
        """Static: torch would treat the blocks, which differ, as one with dynamic shapes."""
        return False

    @property
    def projected_width(self) -> int:
        """Width that each cross-attention projects tokens from."""
        return self.token_width

    def with_projected_width(self, width: int) -> "UNetConfig":
        """Cross-attention to tokens of another width."""
        return replace(self, token_width=width)

    def latent_channels(self, shapes: Mapping[str, tuple[int, ...]]) -> int:
        """Input channels of the first convolution."""
        return shapes["denoiser.conv_in.weight"][1]

    @property
    def modulation_width(self) -> int:
        """Width of modulation: four times the channels, as published."""
        return 4 * self.channels

    def heads_for(self, channels: int) -> int:
        """Number of attention heads for a number of channels."""
        return self.num_heads or channels // (self.head_width or channels)


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
