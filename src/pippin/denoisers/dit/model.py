# SPDX-License-Identifier: Apache-2.0
"""DiT with adaLN-zero (Peebles & Xie 2023, arXiv 2212.09748), with optional cross-attention and
the layers of its successors: RMS norms, SwiGLU, rotary positions (LightningDiT, Yao et al. 2025,
arXiv 2501.01423).

A patch mixer of a few blocks may stand in front (Sehwag et al. 2024, arXiv 2407.15811): it reads
all tokens where training hides some from the other blocks.
"""

from dataclasses import replace

from jaxtyping import Float
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
from pippin.nn.initialise import Linear
from pippin.nn.masking import gather_tokens, kept_patches, kept_tokens, scatter_tokens
from pippin.nn.norms import layer_norm
from pippin.nn.positions import grid_positions
from pippin.nn.rotary import Rotary, grid_rotary
from pippin.types import Embedded, Latents, Masking, Prediction


class WidthProjection(nn.Module):
    """Layer norm and a linear layer to another width."""

    def __init__(self, width: int, features: int) -> None:
        super().__init__()
        self.linear = Linear(width, features)

    def forward(
        self, x: Float[Tensor, "batch tokens width"]
    ) -> Float[Tensor, "batch tokens features"]:
        """Project each token; the residual stream stays in fp32 under autocast."""
        return self.linear(layer_norm(x)).to(x.dtype)


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
        self.mixer_depth, mixer_width = config.mixer_depth, config.mixer_width or width
        widths = [mixer_width] * config.mixer_depth + [width] * config.depth
        self.blocks = nn.ModuleList(
            AdaLNBlock(
                block_width,
                block_width // config.head_width,
                config.mlp_ratio,
                cross_attention=config.cross_attention,
                layers=config.layers,
                condition_width=width,
            )
            for block_width in widths
        )
        """The blocks of the mixer, then the others."""
        resized = mixer_width != width
        self.mixer_in = WidthProjection(width, mixer_width) if resized else nn.Identity()
        self.mixer_out = WidthProjection(mixer_width, width) if resized else nn.Identity()
        features = config.patch_size**2 * out_channels
        self.output = ModulatedOutput(width, width, features, norm=config.norm)

    def num_image_tokens(self, shape: tuple[int, ...]) -> int:
        """All tokens."""
        return shape[-2] * shape[-1] // self.patch_size**2

    def is_aligned(self, block: nn.Module) -> bool:
        """Whether a block is the aligned one, by its number after the mixer."""
        number = self.aligned_block
        return number is not None and block is self.blocks[self.mixer_depth + number - 1]

    def forward(
        self, x_t: Latents, embedded: Embedded, masking: Masking | None = None
    ) -> Prediction:
        """(B, C, H, W) -> mean (B, C, H, W), and as many variance channels where learnt.

        With a ``hidden_share`` of ``masking``, the blocks after the mixer read the kept tokens
        only; these keep their own positions, and the prediction is 0 at the others.
        """
        grid = patch_grid(x_t, self.patch_size)
        conditions = embedded.modulation, embedded.tokens, embedded.mask
        x = self.patches(x_t)  # (B, N, D)
        # fp32 from here on, also under bf16 autocast
        x = x + grid_positions(grid, x.shape[-1], x.device, self.base_grid)
        rotary, hidden, kept, num_tokens = self._rotary(grid, x), None, None, x.shape[1]
        x = self.mixer_in(x)
        for block in self.blocks[: self.mixer_depth]:
            x = block(x, *conditions, rotary=rotary)
        if masking is not None and masking.hidden_share:
            kept = kept_tokens(masking.order, masking.hidden_share)
            x = gather_tokens(x, kept)  # (B, K, D)
            rotary = None if rotary is None else rotary.take(kept)
        x = self.mixer_out(x)
        for block in self.blocks[self.mixer_depth :]:
            x = block(x, *conditions, rotary=rotary)
            hidden = x if self.is_aligned(block) else hidden
        x = self.output(x, embedded.modulation)
        x = x if kept is None else scatter_tokens(x, kept, num_tokens)
        prediction = split_variance(from_patches(x, grid, self.patch_size), self.latent_channels)
        patches = None if kept is None else kept_patches(kept, grid, self.patch_size)
        return replace(prediction, hidden=hidden, kept=patches)

    def _rotary(self, grid: tuple[int, int], x: Tensor) -> Rotary | None:
        if self.rotary_width is None:
            return None
        return grid_rotary(grid, self.rotary_width, x.device, self.base_grid)
