# SPDX-License-Identifier: Apache-2.0
"""Configuration of DDT, and its sizes."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from pippin.config import ConfigError
from pippin.denoisers.config import SIZES, SizeName, TimeName, TransformerConfig
from pippin.nn.config import BlockLayers
from pippin.settings.bounds import at_least
from pippin.settings.marks import PROTOCOL_IF_CHANGED


@dataclass(frozen=True, kw_only=True)
class DDTConfig(TransformerConfig):
    """DDT, the decoupled diffusion transformer (Wang et al. 2025)."""

    kind: Literal["ddt"] = "ddt"
    qk_norm: bool = True
    encoder_depth: int
    """Number of blocks of the condition encoder; the others are the velocity decoder."""
    decoder_width: int | None = field(default=None, metadata=PROTOCOL_IF_CHANGED)
    """Width of the velocity decoder, or None: that of the encoder. A decoder of few, wide blocks
    is the DDT head of Zheng et al. 2025 for latents of many channels."""
    decoder_heads: int | None = field(default=None, metadata=PROTOCOL_IF_CHANGED)
    """Attention heads of the velocity decoder, or None: as many as in the encoder."""
    cross_attention: bool = False
    """Add cross-attention to condition tokens in the blocks of the encoder; our addition."""

    def __post_init__(self) -> None:
        """Refuse an encoder without a decoder, and settings that rotary positions exclude."""
        super().__post_init__()
        at_least(self, "denoiser", 1, "encoder_depth")
        if self.encoder_depth >= self.depth:
            raise ConfigError(
                "denoiser.encoder_depth must be below denoiser.depth, which counts the blocks of "
                f"encoder and decoder; got {self.encoder_depth} and {self.depth}"
            )
        at_least(self, "denoiser", 1, "decoder_width", "decoder_heads")
        self.check_rotary()
        if self.decoder_dimensions[0] % (4 * self.decoder_dimensions[1]):
            raise ConfigError(
                "denoiser.decoder_width must be a multiple of 4 times denoiser.decoder_heads for "
                f"rotary positions; got {self.decoder_dimensions[0]} and "
                f"{self.decoder_dimensions[1]}: give --denoiser.decoder-heads N"
            )
        if self.base_grid is not None:
            raise ConfigError(
                "denoiser.base_grid has no use in ddt, whose positions cover the same range on "
                f"every grid: leave it out; got {self.base_grid}"
            )

    def with_tokens(self) -> "DDTConfig":
        """The denoiser with cross-attention."""
        return replace(self, cross_attention=True)

    @property
    def time_input(self) -> TimeName:
        """Times from 0 = noise to 1 = data."""
        return "data"

    @property
    def decoder_dimensions(self) -> tuple[int, int]:
        """Width and number of heads of the velocity decoder."""
        return self.decoder_width or self.width, self.decoder_heads or self.num_heads

    @property
    def encoder_layers(self) -> BlockLayers:
        """Layers of the encoder's blocks."""
        return self._layers(modulation_silu=True)

    @property
    def decoder_layers(self) -> BlockLayers:
        """Layers of the decoder's blocks, whose modulation has passed SiLU before."""
        return self._layers(modulation_silu=False)

    def _layers(self, *, modulation_silu: bool) -> BlockLayers:
        return BlockLayers(
            norm="rms",
            mlp="swiglu",
            mlp_bias=False,
            qk_norm=self.qk_norm,
            qkv_bias=False,
            modulation_silu=modulation_silu,
        )

    @property
    def token_blocks(self) -> int:
        """The blocks of the encoder."""
        return self.encoder_depth

    @property
    def shape_text(self) -> str:
        """Depths of encoder and decoder, and width, or both widths."""
        first, second = self.encoder_depth, self.depth - self.encoder_depth
        if self.decoder_dimensions[0] != self.width:
            return f"{first} x {self.width} + {second} x {self.decoder_width}"
        return f"{first} + {second} x {self.width}"

    def with_grid(self, side: int, base: int) -> "DDTConfig":
        """The same: positions cover one range on every grid."""
        return self

    def latent_channels(self, shapes: Mapping[str, tuple[int, ...]]) -> int:
        """Channels of a patch, which the first layer reads as one vector."""
        return shapes["denoiser.patches.encoder.linear.weight"][1] // self.patch_size**2


_ENCODER_DEPTHS: dict[SizeName, int] = {"tiny": 3, "S": 8, "B": 8, "L": 20, "XL": 22}
"""B, L and XL are the paper's, 8 + 4, 20 + 4 and 22 + 6 blocks; tiny and S are our choice."""


def ddt(size: SizeName, **settings: Any) -> DDTConfig:
    """DDT of a named size."""
    settings = {"encoder_depth": _ENCODER_DEPTHS[size]} | settings
    return DDTConfig(**SIZES[size]._asdict(), **settings)
