# SPDX-License-Identifier: Apache-2.0
"""PixArt-alpha (Chen et al. 2023, arXiv 2310.00426): one shared modulation, adaLN-single."""

from dataclasses import replace

import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from pippin.denoisers.denoiser import Denoiser, TokenUse, Widths
from pippin.denoisers.pixart.config import PixArtConfig
from pippin.nn.attention import CrossAttention, SelfAttention
from pippin.nn.blocks import MLP, ModulationTable, modulate
from pippin.nn.embeddings import PatchEmbedding, from_patches, patch_grid, split_variance
from pippin.nn.initialise import Linear, normal, zeros
from pippin.nn.norms import layer_norm
from pippin.nn.positions import grid_positions
from pippin.types import Embedded, Latents, Masking, Prediction

Tokens = Float[Tensor, "batch tokens width"]


class PixArtBlock(nn.Module):
    """Gated self-attention, cross-attention without norm or gate, gated MLP.

    Its six modulation vectors are its own table plus the vectors shared by all blocks.
    """

    def __init__(self, config: PixArtConfig) -> None:
        super().__init__()
        width, heads = config.width, config.num_heads
        self.modulation = ModulationTable(width, 6)
        self.attention = SelfAttention(width, heads, qk_norm=config.qk_norm)
        self.cross = CrossAttention(width, width, heads, qk_norm=config.qk_norm)
        self.mlp = MLP(width, config.mlp_ratio)

    def forward(
        self,
        x: Tokens,
        shared: Float[Tensor, "batch six width"],
        tokens: Float[Tensor, "batch condition_tokens width"],
        mask: Bool[Tensor, "batch condition_tokens"] | None,
    ) -> Tokens:
        """Apply one block; (B, N, D) -> (B, N, D)."""
        shift1, scale1, gate1, shift2, scale2, gate2 = self.modulation(shared)  # each (B, D)
        x = x + gate1[:, None] * self.attention(modulate(layer_norm(x), shift1, scale1))
        x = x + self.cross(x, tokens, mask)
        return x + gate2[:, None] * self.mlp(modulate(layer_norm(x), shift2, scale2))


class PixArtOutput(nn.Module):
    """Modulated layer norm and a zero-initialised projection; reads the modulation vector without
    SiLU."""

    def __init__(self, width: int, out_features: int) -> None:
        super().__init__()
        self.modulation = ModulationTable(width, 2)
        self.linear = Linear(width, out_features, init=zeros)

    def forward(
        self, x: Tokens, modulation: Float[Tensor, "batch width"]
    ) -> Float[Tensor, "batch tokens features"]:
        """Project tokens to patches."""
        shift, scale = self.modulation(modulation[:, None])
        return self.linear(modulate(layer_norm(x), shift, scale))


class PixArt(Denoiser):
    """Transformer with text by cross-attention and time by one shared modulation."""

    token_use: TokenUse = "cross"

    def __init__(self, config: PixArtConfig, latent_channels: int) -> None:
        super().__init__()
        width, out_channels = config.width, latent_channels * (2 if config.learn_variance else 1)
        self.widths = Widths(token=width, modulation=width, time_features=256)
        self.config, self.latent_channels = config, latent_channels
        self.patches = PatchEmbedding(latent_channels, config.patch_size, width)
        self.shared = Linear(width, 6 * width, init=normal(0.02))
        self.blocks = nn.ModuleList(PixArtBlock(config) for _ in range(config.depth))
        self.output = PixArtOutput(width, config.patch_size**2 * out_channels)

    def forward(
        self, x_t: Latents, embedded: Embedded, masking: Masking | None = None
    ) -> Prediction:
        """(B, C, H, W) -> mean (B, C, H, W), and as many variance channels where learnt."""
        assert embedded.tokens is not None
        grid = patch_grid(x_t, self.config.patch_size)
        x = self.patches(x_t)  # (B, N, D)
        x = x + self._positions(grid, x)  # fp32 from here on, also under bf16 autocast
        shared = self.shared(F.silu(embedded.modulation)).unflatten(-1, (6, -1))  # (B, 6, D)
        hidden = None
        for block in self.blocks:
            x = block(x, shared, embedded.tokens, embedded.mask)
            hidden = x if self.is_aligned(block) else hidden
        x = from_patches(self.output(x, embedded.modulation), grid, self.config.patch_size)
        return replace(split_variance(x, self.latent_channels), hidden=hidden)

    def _positions(self, grid: tuple[int, int], x: Tokens) -> Float[Tensor, "tokens width"]:
        config = self.config
        return grid_positions(grid, x.shape[-1], x.device, config.base_grid, config.interpolation)
