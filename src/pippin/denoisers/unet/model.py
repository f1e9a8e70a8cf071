# SPDX-License-Identifier: Apache-2.0
"""Convolutional UNet of latent diffusion (Rombach et al. 2022, arXiv 2112.10752).

Implemented from the published structure. Conditions enter by cross-attention; time and control are
added inside each residual block.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from pippin.denoisers.denoiser import Denoiser, TokenUse, Widths
from pippin.denoisers.unet.config import UNetConfig
from pippin.nn.attention import CrossAttention, SelfAttention
from pippin.nn.initialise import Conv2d, GroupNorm, LayerNorm, Linear, zeros
from pippin.types import Embedded, Latents, Masking, Prediction

Maps = Float[Tensor, "batch channels height width"]
Wider = Float[Tensor, "batch other_channels height width"]
Tokens = Float[Tensor, "batch tokens width"]


class ResidualBlock(nn.Module):
    """Two convolutions with the modulation vector added between them."""

    def __init__(
        self, in_channels: int, out_channels: int, modulation_width: int, groups: int
    ) -> None:
        super().__init__()
        self.norm_in = GroupNorm(groups, in_channels)
        self.conv_in = Conv2d(in_channels, out_channels, 3)
        self.modulation = Linear(modulation_width, out_channels)
        self.norm_out = GroupNorm(groups, out_channels)
        self.conv_out = Conv2d(out_channels, out_channels, 3, init=zeros)
        self.shortcut = (
            Conv2d(in_channels, out_channels, 1) if in_channels != out_channels else None
        )

    def forward(self, x: Maps, modulation: Float[Tensor, "batch modulation_width"]) -> Wider:
        """(B, C, H, W) -> (B, C', H, W)."""
        h = self.conv_in(F.silu(self.norm_in(x)))
        h = h + self.modulation(F.silu(modulation))[..., None, None]
        h = self.conv_out(F.silu(self.norm_out(h)))
        return h + (x if self.shortcut is None else self.shortcut(x))


class GatedMLP(nn.Module):
    """Linear to value and gate, value times exact GELU of the gate, Linear (Shazeer 2020)."""

    def __init__(self, width: int, ratio: int = 4) -> None:
        super().__init__()
        self.linear_in = Linear(width, 2 * ratio * width)
        self.linear_out = Linear(ratio * width, width)

    def forward(self, x: Tokens) -> Tokens:
        """Apply to each token."""
        value, gate = self.linear_in(x).chunk(2, dim=-1)
        return self.linear_out(value * F.gelu(gate))


class TransformerBlock(nn.Module):
    """Self-attention, cross-attention, gated MLP, each after a layer norm."""

    def __init__(self, width: int, num_heads: int, config: UNetConfig) -> None:
        super().__init__()
        norm = config.qk_norm
        self.norm_self, self.norm_cross, self.norm_mlp = (LayerNorm(width) for _ in range(3))
        self.attention = SelfAttention(width, num_heads, qk_norm=norm, qkv_bias=False)
        self.cross = CrossAttention(
            width, config.token_width, num_heads, qk_norm=norm, qkv_bias=False
        )
        self.mlp = GatedMLP(width)

    def forward(
        self,
        x: Tokens,
        tokens: Float[Tensor, "batch condition_tokens token_width"],
        mask: Bool[Tensor, "batch condition_tokens"] | None,
    ) -> Tokens:
        """(B, N, C) -> (B, N, C)."""
        x = x + self.attention(self.norm_self(x))
        x = x + self.cross(self.norm_cross(x), tokens, mask)
        return x + self.mlp(self.norm_mlp(x))


class SpatialTransformer(nn.Module):
    """Transformer blocks over the positions of a feature map, between two 1 x 1 convolutions."""

    def __init__(self, channels: int, config: UNetConfig) -> None:
        super().__init__()
        heads = config.heads_for(channels)
        self.norm = GroupNorm(config.norm_groups, channels, eps=1e-6)
        self.project_in = Conv2d(channels, channels, 1)
        self.blocks = nn.ModuleList(
            TransformerBlock(channels, heads, config) for _ in range(config.transformer_depth)
        )
        self.project_out = Conv2d(channels, channels, 1, init=zeros)

    def forward(
        self,
        x: Maps,
        tokens: Float[Tensor, "batch condition_tokens token_width"],
        mask: Bool[Tensor, "batch condition_tokens"] | None,
    ) -> Maps:
        """(B, C, H, W) -> (B, C, H, W)."""
        size = x.shape[-2:]
        h = self.project_in(self.norm(x)).flatten(2).transpose(1, 2)  # (B, H W, C)
        for block in self.blocks:
            h = block(h, tokens, mask)
        return x + self.project_out(h.transpose(1, 2).unflatten(2, size))


class UNetBlock(nn.Module):
    """Residual block, followed at some resolutions by a spatial transformer."""

    def __init__(
        self, in_channels: int, out_channels: int, config: UNetConfig, *, attention: bool
    ) -> None:
        super().__init__()
        self.residual = ResidualBlock(
            in_channels, out_channels, config.modulation_width, config.norm_groups
        )
        self.transformer = SpatialTransformer(out_channels, config) if attention else None

    def forward(
        self,
        x: Maps,
        modulation: Float[Tensor, "batch modulation_width"],
        tokens: Float[Tensor, "batch condition_tokens token_width"],
        mask: Bool[Tensor, "batch condition_tokens"] | None,
    ) -> Wider:
        """(B, C, H, W) -> (B, C', H, W)."""
        x = self.residual(x, modulation)
        return x if self.transformer is None else self.transformer(x, tokens, mask)


class UNet(Denoiser):
    """UNet: down path, middle, and up path with concatenated skips."""

    token_use: TokenUse = "cross"

    def __init__(self, config: UNetConfig, latent_channels: int) -> None:
        super().__init__()
        self.config = config
        self.widths = Widths(
            token=config.token_width,
            modulation=config.modulation_width,
            time_features=config.channels,
        )
        channels = config.channels
        levels = [channels * multiple for multiple in config.channel_multiples]
        self.conv_in = Conv2d(latent_channels, channels, 3)
        blocks: list[UNetBlock] = []
        skips = [channels]
        for level, width in enumerate(levels):
            attention = 2**level in config.attention_factors
            for _ in range(config.blocks_per_level):
                blocks.append(UNetBlock(channels, width, config, attention=attention))
                channels = width
                skips.append(channels)
            if level < len(levels) - 1:
                skips.append(channels)
        blocks.append(UNetBlock(channels, channels, config, attention=True))
        blocks.append(UNetBlock(channels, channels, config, attention=False))
        for level, width in reversed(list(enumerate(levels))):
            attention = 2**level in config.attention_factors
            for _ in range(config.blocks_per_level + 1):
                blocks.append(
                    UNetBlock(channels + skips.pop(), width, config, attention=attention)
                )
                channels = width
        self.blocks = nn.ModuleList(blocks)
        """Blocks in the order of their use: down path, the two of the middle, up path."""
        self.down = nn.ModuleList(Conv2d(width, width, 3, stride=2) for width in levels[:-1])
        """Downsampling layers, by the level of their input."""
        self.up = nn.ModuleList(Conv2d(width, width, 3) for width in levels[1:])
        """Upsampling layers, by the level of their output."""
        self.norm_out = GroupNorm(config.norm_groups, channels)
        self.conv_out = Conv2d(channels, latent_channels, 3, init=zeros)

    def forward(
        self, x_t: Latents, embedded: Embedded, masking: Masking | None = None
    ) -> Prediction:
        """(B, C, H, W) -> mean (B, C, H, W).

        Raises:
            ValueError: a side that cannot be halved once for each level.
        """
        assert embedded.tokens is not None
        factor = self.config.side_multiple
        if x_t.shape[-2] % factor or x_t.shape[-1] % factor:
            raise ValueError(
                f"a latent of {x_t.shape[-2]} x {x_t.shape[-1]} cannot be halved to whole numbers "
                f"at every level; its sides must be multiples of {factor}"
            )
        conditions = (embedded.modulation, embedded.tokens, embedded.mask)
        blocks = iter(self.blocks)
        x = self.conv_in(x_t)
        skips = [x]
        per_level, top = self.config.blocks_per_level, len(self.down)
        for level in range(top + 1):
            for _ in range(per_level):
                x = next(blocks)(x, *conditions)
                skips.append(x)
            if level < top:
                x = self.down[level](x)
                skips.append(x)
        x = next(blocks)(x, *conditions)
        x = next(blocks)(x, *conditions)
        for level in reversed(range(top + 1)):
            for _ in range(per_level + 1):
                x = next(blocks)(torch.cat([x, skips.pop()], dim=1), *conditions)
            if level > 0:
                x = self.up[level - 1](F.interpolate(x, scale_factor=2.0, mode="nearest"))
        return Prediction(mean=self.conv_out(F.silu(self.norm_out(x))))
