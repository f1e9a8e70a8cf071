# SPDX-License-Identifier: Apache-2.0
"""DiT with adaLN-zero (Peebles & Xie 2023, arXiv 2212.09748), with optional cross-attention and
the layers of its successors: RMS norms, SwiGLU, rotary positions (LightningDiT, Yao et al. 2025,
arXiv 2501.01423)."""

from dataclasses import replace

from torch import Tensor, nn

from pippin.denoisers.denoiser import Denoiser, TokenUse, Widths
from pippin.denoisers.dit.config import DiTConfig
from pippin.nn.blocks import AdaLNBlock, ModulatedOutput
from pippin.nn.embeddings import (
    DATA_TIME,
    PatchEmbedding,
    TimeInput,
    from_patches,
    patch_grid,
    split_variance,
)
from pippin.nn.positions import grid_positions
from pippin.nn.rotary import Rotary, grid_rotary
from pippin.types import Embedded, Latents, Masking, Prediction


class DiT(Denoiser):
    """Vision transformer over latent patches, with adaLN-zero."""

    def __init__(self, config: DiTConfig, latent_channels: int) -> None:
        super().__init__()
        width, out_channels = config.width, latent_channels * (2 if config.learn_variance else 1)
        self.widths = Widths(token=width, modulation=width, time_features=256)
        self.token_use: TokenUse = "cross" if config.cross_attention else "none"
        self.time_input = DATA_TIME if config.time_input == "data" else TimeInput()
        self.patch_size, self.base_grid = config.patch_size, config.base_grid
        self.latent_channels = latent_channels
        self.rotary_width = width // config.num_heads if config.rotary else None
        self.patches = PatchEmbedding(latent_channels, config.patch_size, width)
        self.blocks = nn.ModuleList(
            AdaLNBlock(
                width,
                config.num_heads,
                config.mlp_ratio,
                cross_attention=config.cross_attention,
                layers=config.layers,
            )
            for _ in range(config.depth)
        )
        features = config.patch_size**2 * out_channels
        self.output = ModulatedOutput(width, width, features, norm=config.norm)

    def forward(
        self, x_t: Latents, embedded: Embedded, masking: Masking | None = None
    ) -> Prediction:
        """(B, C, H, W) -> mean (B, C, H, W), and as many variance channels where learnt."""
        grid = patch_grid(x_t, self.patch_size)
        x = self.patches(x_t)  # (B, N, D)
        # fp32 from here on, also under bf16 autocast
        x = x + grid_positions(grid, x.shape[-1], x.device, self.base_grid)
        rotary, hidden = self._rotary(grid, x), None
        for block in self.blocks:
            x = block(x, embedded.modulation, embedded.tokens, embedded.mask, rotary=rotary)
            hidden = x if self.is_aligned(block) else hidden
        x = from_patches(self.output(x, embedded.modulation), grid, self.patch_size)
        return replace(split_variance(x, self.latent_channels), hidden=hidden)

    def _rotary(self, grid: tuple[int, int], x: Tensor) -> Rotary | None:
        if self.rotary_width is None:
            return None
        return grid_rotary(grid, self.rotary_width, x.device, self.base_grid)
