# SPDX-License-Identifier: Apache-2.0
"""JiT, "just image transformers" (Li & He 2025, arXiv 2511.13720).

A plain transformer over large patches. Patches pass a bottleneck; blocks have RMS norms, QK-norm,
SwiGLU and rotary positions; condition tokens join the image's tokens in self-attention from one
block on.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from pippin.denoisers.denoiser import Denoiser, TokenUse, Widths
from pippin.denoisers.jit.config import JiTConfig
from pippin.nn.blocks import AdaLNBlock, ModulatedOutput
from pippin.nn.embeddings import DATA_TIME, from_patches, patch_grid, to_patches
from pippin.nn.initialise import Init, Linear, normal
from pippin.nn.positions import grid_positions
from pippin.nn.rotary import grid_rotary
from pippin.types import Embedded, Latents, Masking, Prediction

Tokens = Float[Tensor, "batch tokens dim"]


class BottleneckEmbedding(nn.Module):
    """Two linear layers on each patch, with nothing between: a projection of low rank.

    Args:
        channels: of the latents.
        patch_size: side of a patch.
        bottleneck: width between the layers.
        width: width of the tokens.
    """

    def __init__(self, channels: int, patch_size: int, bottleneck: int, width: int) -> None:
        super().__init__()
        self.patch_size = patch_size
        self.linear_in = Linear(channels * patch_size**2, bottleneck, bias=False)
        self.linear_out = Linear(bottleneck, width)

    def forward(self, x: Latents) -> Tokens:
        """(B, C, H, W) -> (B, H/p * W/p, D)."""
        return self.linear_out(self.linear_in(to_patches(x, self.patch_size)))


class RepeatedToken(nn.Module):
    """One condition token, repeated, each copy with a learned position.

    Args:
        count: number of copies.
        width: width of the tokens.
    """

    def __init__(self, count: int, width: int) -> None:
        super().__init__()
        self.positions = nn.Parameter(torch.zeros(count, width))
        self.inits: dict[str, Init] = {"positions": normal(0.02)}

    def forward(self, tokens: Float[Tensor, "batch one dim"]) -> Tokens:
        """(B, 1, D) -> (B, count, D).

        Raises:
            ValueError: another number of condition tokens than one.
        """
        if tokens.shape[1] != 1:
            raise ValueError(
                f"denoiser.context_repeats repeats one condition token, got {tokens.shape[1]}: "
                "set denoiser.context_repeats to None, or conditioning.semantic.num_tokens to 1"
            )
        return tokens + self.positions


class JiT(Denoiser):
    """Transformer over patches with condition tokens in context."""

    time_input = DATA_TIME

    def __init__(self, config: JiTConfig, latent_channels: int) -> None:
        super().__init__()
        width = config.width
        self.widths = Widths(token=width, modulation=width, time_features=256)
        self.config = config
        self.token_use: TokenUse = "none" if config.context_start is None else "joint"
        self.patches = BottleneckEmbedding(
            latent_channels, config.patch_size, config.bottleneck_width, width
        )
        repeats = config.context_repeats
        self.context = None if repeats is None else RepeatedToken(repeats, width)
        self.blocks = nn.ModuleList(
            AdaLNBlock(width, config.num_heads, config.mlp_ratio, layers=config.layers)
            for _ in range(config.depth)
        )
        features = config.patch_size**2 * latent_channels
        self.output = ModulatedOutput(width, width, features, norm="rms")

    def forward(
        self, x_t: Latents, embedded: Embedded, masking: Masking | None = None
    ) -> Prediction:
        """(B, C, H, W) -> mean (B, C, H, W)."""
        config, start = self.config, self.config.context_start
        grid = patch_grid(x_t, config.patch_size)
        x = self.patches(x_t)  # (B, N, D)
        # fp32 from here on, also under bf16 autocast
        x = x + grid_positions(grid, x.shape[-1], x.device, config.base_grid)
        head = config.width // config.num_heads
        rotary = grid_rotary(grid, head, x.device, config.base_grid)
        hidden = None
        for block in self.blocks[:start]:
            x = block(x, embedded.modulation, None, None, rotary=rotary)
            hidden = x if self.is_aligned(block) else hidden
        if start is not None:
            context, mask = self._context(embedded, x)  # (B, L, D), (B, L + N)
            length = context.shape[1]
            x = torch.cat([context, x], dim=1)
            rotary = grid_rotary(grid, head, x.device, config.base_grid, unrotated=length)
            for block in self.blocks[start:]:
                x = block(x, embedded.modulation, None, None, rotary=rotary, key_mask=mask)
                hidden = x[:, length:] if self.is_aligned(block) else hidden
            x = x[:, length:]
        output = self.output(x, embedded.modulation)
        return Prediction(mean=from_patches(output, grid, config.patch_size), hidden=hidden)

    def _context(
        self, embedded: Embedded, x: Tokens
    ) -> tuple[Float[Tensor, "batch context dim"], Bool[Tensor, "batch keys"] | None]:
        """Condition tokens, and the mask of these and the image's tokens."""
        assert embedded.tokens is not None
        tokens, mask = embedded.tokens, embedded.mask
        if self.context is not None:
            return self.context(tokens), None
        if mask is not None:
            mask = torch.cat([mask, mask.new_ones(x.shape[:2])], dim=1)
        return tokens, mask
