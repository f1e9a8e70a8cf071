# SPDX-License-Identifier: Apache-2.0
"""DiT with adaLN-zero (Peebles & Xie 2023, arXiv 2212.09748), with optional cross-attention."""

from torch import nn

from pippin.denoisers.denoiser import Denoiser, TokenUse, Widths
from pippin.denoisers.dit.config import DiTConfig
from pippin.nn.blocks import AdaLNBlock, ModulatedOutput
from pippin.nn.embeddings import PatchEmbedding, from_patches, patch_grid, split_variance
from pippin.nn.positions import grid_positions
from pippin.types import Embedded, Latents, Masking, Prediction


class DiT(Denoiser):
    """Vision transformer over latent patches, with adaLN-zero."""

    def __init__(self, config: DiTConfig, latent_channels: int) -> None:
        super().__init__()
        width, out_channels = config.width, latent_channels * (2 if config.learn_variance else 1)
        self.widths = Widths(token=width, modulation=width, time_features=256)
        self.token_use: TokenUse = "cross" if config.cross_attention else "none"
        self.patch_size, self.base_grid = config.patch_size, config.base_grid
        self.latent_channels = latent_channels
        self.patches = PatchEmbedding(latent_channels, config.patch_size, width)
        self.blocks = nn.ModuleList(
            AdaLNBlock(
                width,
                config.num_heads,
                config.mlp_ratio,
                qk_norm=config.qk_norm,
                cross_attention=config.cross_attention,
            )
            for _ in range(config.depth)
        )
        self.output = ModulatedOutput(width, width, config.patch_size**2 * out_channels)

    def forward(
        self, x_t: Latents, embedded: Embedded, masking: Masking | None = None
    ) -> Prediction:
        """(B, C, H, W) -> mean (B, C, H, W), and as many variance channels where learnt."""
        grid = patch_grid(x_t, self.patch_size)
        x = self.patches(x_t)  # (B, N, D)
        # fp32 from here on, also under bf16 autocast
        x = x + grid_positions(grid, x.shape[-1], x.device, self.base_grid)
        for block in self.blocks:
            x = block(x, embedded.modulation, embedded.tokens, embedded.mask)
        x = from_patches(self.output(x, embedded.modulation), grid, self.patch_size)
        return split_variance(x, self.latent_channels)
