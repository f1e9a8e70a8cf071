# SPDX-License-Identifier: Apache-2.0
"""DiT with adaLN-zero (Peebles & Xie 2023, arXiv 2212.09748), and with cross-attention added."""

from jaxtyping import Bool, Float
from torch import Tensor, nn

from pippin.denoisers.config import DiTConfig
from pippin.denoisers.denoiser import Denoiser, TokenUse, Widths
from pippin.nn.attention import CrossAttention, SelfAttention
from pippin.nn.mlp import MLP
from pippin.nn.modulation import ModulatedOutput, Modulation, layer_norm, modulate
from pippin.nn.patches import PatchEmbedding, from_patches
from pippin.nn.positions import sincos_2d
from pippin.types import Embedded, Latents, Prediction

Tokens = Float[Tensor, "batch tokens width"]


class DiTBlock(nn.Module):
    """Gated self-attention, optional cross-attention, gated MLP."""

    def __init__(self, config: DiTConfig) -> None:
        super().__init__()
        width, heads = config.width, config.num_heads
        self.modulation = Modulation(width, width, 6)
        self.attention = SelfAttention(width, heads, qk_norm=config.qk_norm)
        self.cross = (
            CrossAttention(width, width, heads, qk_norm=config.qk_norm)
            if config.cross_attention
            else None
        )
        self.mlp = MLP(width, config.mlp_ratio)

    def forward(
        self,
        x: Tokens,
        modulation: Float[Tensor, "batch width"],
        tokens: Float[Tensor, "batch condition_tokens width"] | None,
        mask: Bool[Tensor, "batch condition_tokens"] | None,
    ) -> Tokens:
        """One block; (B, N, D) -> (B, N, D)."""
        shift1, scale1, gate1, shift2, scale2, gate2 = self.modulation(modulation)  # each (B, D)
        x = x + gate1[:, None] * self.attention(modulate(layer_norm(x), shift1, scale1))
        if self.cross is not None:
            assert tokens is not None
            x = x + self.cross(layer_norm(x), tokens, mask)
        return x + gate2[:, None] * self.mlp(modulate(layer_norm(x), shift2, scale2))


class DiT(Denoiser):
    """A plain vision transformer over latent patches."""

    def __init__(self, config: DiTConfig, latent_channels: int) -> None:
        super().__init__()
        width, out_channels = config.width, latent_channels * (2 if config.learn_variance else 1)
        self.widths = Widths(token=width, modulation=width, time_features=256)
        self.token_use: TokenUse = "cross" if config.cross_attention else "none"
        self.patch_size = config.patch_size
        self.latent_channels = latent_channels
        self.patches = PatchEmbedding(latent_channels, config.patch_size, width)
        self.blocks = nn.ModuleList(DiTBlock(config) for _ in range(config.depth))
        self.output = ModulatedOutput(width, width, config.patch_size**2 * out_channels)

    def forward(self, x_t: Latents, embedded: Embedded) -> Prediction:
        """(B, C, H, W) -> mean (B, C, H, W), and as many variance channels where learnt."""
        grid = (x_t.shape[-2] // self.patch_size, x_t.shape[-1] // self.patch_size)
        x = self.patches(x_t)  # (B, N, D)
        x = x + sincos_2d(*grid, x.shape[-1], x.device)  # from here on fp32, in bf16 autocast too
        for block in self.blocks:
            x = block(x, embedded.modulation, embedded.tokens, embedded.mask)
        x = from_patches(self.output(x, embedded.modulation), grid, self.patch_size)
        mean, variance = x[:, : self.latent_channels], x[:, self.latent_channels :]
        return Prediction(mean=mean, variance=variance if variance.shape[1] else None)
