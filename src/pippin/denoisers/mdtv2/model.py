# SPDX-License-Identifier: Apache-2.0
"""MDTv2, the masked diffusion transformer (Gao et al. 2023, arXiv 2303.14389).

Encoder blocks with long skips, then decoder blocks that read the embedded latent again. A masked
pass hides some tokens from the encoder; a side block, the interpolater, predicts their states.
Cross-attention to condition tokens is our addition.
"""

from dataclasses import replace
from typing import ClassVar, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from pippin.denoisers.denoiser import Denoiser, TokenUse, Widths
from pippin.denoisers.mdtv2.config import MDTv2Config
from pippin.nn.blocks import AdaLNBlock, ModulatedOutput
from pippin.nn.config import BlockLayers
from pippin.nn.embeddings import PatchEmbedding, from_patches, patch_grid, split_variance
from pippin.nn.initialise import Init, Linear, normal
from pippin.nn.masking import gather_tokens, num_kept
from pippin.nn.positions import PositionTable, RelativePositionBias, offset_rows
from pippin.types import Embedded, Latents, Masking, Prediction

Tokens = Float[Tensor, "batch tokens width"]
Kept = Int[Tensor, "batch kept"]


class Shared(NamedTuple):
    """Inputs shared by all blocks, in the order of their arguments."""

    modulation: Tensor
    tokens: Tensor | None
    mask: Tensor | None
    offsets: Tensor
    """Row indices into the table of relative positions."""


class MDTBlock(nn.Module):
    """AdaLN-zero block with relative positions, after an optional long skip."""

    def __init__(self, config: MDTv2Config, *, skip: bool) -> None:
        super().__init__()
        width, heads = config.width, config.num_heads
        self.skip = Linear(2 * width, width) if skip else None
        self.bias = RelativePositionBias(config.grid, heads)
        self.block = AdaLNBlock(
            width,
            heads,
            config.mlp_ratio,
            cross_attention=config.cross_attention,
            layers=BlockLayers(qk_norm=config.qk_norm),
        )

    def forward(
        self,
        x: Tokens,
        modulation: Float[Tensor, "batch width"],
        tokens: Float[Tensor, "batch condition_tokens width"] | None,
        mask: Bool[Tensor, "batch condition_tokens"] | None,
        offsets: Int[Tensor, "places places"],
        skip: Tokens | None = None,
        kept: Kept | None = None,
    ) -> Tokens:
        """Apply one block; (B, N, D) -> (B, N, D).

        Args:
            offsets: row of the table of relative positions for each pair of grid positions.
            skip: earlier state of the same tokens.
            kept: grid positions of the tokens; None = all, in order.
        """
        if self.skip is not None:
            assert skip is not None
            # the residual stream stays in fp32 under autocast
            x = self.skip(torch.cat([x, skip], dim=-1)).to(x.dtype)
        return self.block(x, modulation, tokens, mask, self.bias(offsets, kept))


class Interpolater(nn.Module):
    """Interpolater of hidden tokens: fills them with a learned token, and predicts their states
    with one block."""

    inits: ClassVar[dict[str, Init]] = {"mask_token": normal(0.02)}

    def __init__(self, config: MDTv2Config) -> None:
        super().__init__()
        self.mask_token = nn.Parameter(torch.zeros(config.width))
        self.block = MDTBlock(config, skip=False)

    def forward(
        self,
        x: Float[Tensor, "batch kept width"],
        order: Int[Tensor, "batch tokens"],
        positions: Float[Tensor, "tokens width"],
        shared: Shared,
    ) -> Tokens:
        """Kept tokens (B, kept, D) to all tokens (B, N, D); kept tokens bypass the block.

        Args:
            order: the shuffle; its first entries are the positions of the kept tokens.
            positions: positional embedding, added to all tokens.
            shared: inputs shared by all blocks.
        """
        batch, kept, width = x.shape
        hidden = self.mask_token.to(x.dtype).expand(batch, order.shape[1] - kept, width)
        inverse_order = order.argsort(dim=1)
        x = gather_tokens(torch.cat([x, hidden], dim=1), inverse_order)
        x = x + positions
        is_hidden = (inverse_order >= kept)[..., None]
        return torch.where(is_hidden, self.block(x, *shared), x)


class MDTv2(Denoiser):
    """Masked diffusion transformer, second version."""

    def __init__(self, config: MDTv2Config, latent_channels: int) -> None:
        super().__init__()
        width, out_channels = config.width, latent_channels * (2 if config.learn_variance else 1)
        self.widths = Widths(token=width, modulation=width, time_features=256)
        self.token_use: TokenUse = "cross" if config.cross_attention else "none"
        self.config, self.latent_channels = config, latent_channels
        self.patches = PatchEmbedding(latent_channels, config.patch_size, width)
        self.positions = PositionTable(config.grid, width, trained=True)
        self.decoder_positions = PositionTable(config.grid, width, trained=True)
        half = (config.depth - config.decoder_depth) // 2
        skips = [False] * half + [True] * (half + config.decoder_depth)
        self.stage = half
        self.blocks = nn.ModuleList(MDTBlock(config, skip=skip) for skip in skips)
        self.interpolater = Interpolater(config) if config.mask_ratio is not None else None
        self.output = ModulatedOutput(width, width, config.patch_size**2 * out_channels)

    def num_maskable(self, shape: tuple[int, ...]) -> int:
        """All tokens, if the model has a mask ratio."""
        if self.interpolater is None:
            return 0
        return shape[-2] * shape[-1] // self.config.patch_size**2

    def forward(
        self, x_t: Latents, embedded: Embedded, masking: Masking | None = None
    ) -> Prediction:
        """(B, C, H, W) -> mean (B, C, H, W), and as many variance channels where learnt.

        With ``masking``, a second pass without the hidden tokens gives ``aux``. The tokens of an
        aligned block are those of the first pass, which sees all of them.

        Raises:
            ValueError: another grid than that of the learned positions, or masking of a model
                without a mask ratio.
        """
        grid = patch_grid(x_t, self.config.patch_size)
        x = self.patches(x_t)  # (B, N, D)
        if grid != self.config.grid:
            raise ValueError(
                f"this mdtv2 has learned positions for {_grid(self.config.grid)} patches; the "
                f"latent has {_grid(grid)}: set denoiser.grid to {grid[0]} {grid[1]} before "
                "training, or choose a resolution that fits"
            )
        x = x + self.positions.weight  # fp32 from here on, also under bf16 autocast
        offsets = offset_rows(*grid, x.device)
        shared = Shared(embedded.modulation, embedded.tokens, embedded.mask, offsets)
        aligned: list[Tokens] = []
        prediction = self._decode(self._encode(x, shared, None, aligned), x, shared, aligned)
        prediction = replace(prediction, hidden=aligned[0] if aligned else None)
        if masking is None:
            return prediction
        return replace(prediction, aux=self._masked(x, shared, masking))

    def _encode(
        self, x: Tokens, shared: Shared, kept: Kept | None, aligned: list[Tokens]
    ) -> Tokens:
        """Encoder; the states of its first half return as long skips in reverse order. The tokens
        of an aligned block are appended to ``aligned``."""
        skips: list[Tokens] = []
        for block in self.blocks[: self.stage]:
            x = block(x, *shared, kept=kept)
            skips.append(x)
            aligned += [x] if self.is_aligned(block) else []
        for block in self.blocks[self.stage : 2 * self.stage]:
            x = block(x, *shared, skip=skips.pop(), kept=kept)
            aligned += [x] if self.is_aligned(block) else []
        return x if kept is not None else x + self.decoder_positions.weight

    def _decode(
        self, x: Tokens, embedded_latent: Tokens, shared: Shared, aligned: list[Tokens]
    ) -> Prediction:
        for block in self.blocks[2 * self.stage :]:
            x = block(x, *shared, skip=embedded_latent)
            aligned += [x] if self.is_aligned(block) else []
        x = self.output(x, shared.modulation)
        x = from_patches(x, self.config.grid, self.config.patch_size)
        return split_variance(x, self.latent_channels)

    def _masked(self, x: Tokens, shared: Shared, masking: Masking) -> Prediction:
        """Masked pass: the encoder sees some tokens only; the decoder still reads the full
        latent."""
        if self.interpolater is None or self.config.mask_ratio is None:
            raise ValueError("this mdtv2 has no masked pass; build it with denoiser.mask_ratio")
        ratio = self.config.mask_ratio + self.config.mask_ratio_range * masking.ratio_position
        order = masking.order.argsort(dim=1)
        kept = order[:, : num_kept(x.shape[1], ratio)]
        encoded = self._encode(gather_tokens(x, kept), shared, kept, [])
        filled = self.interpolater(encoded, order, self.decoder_positions.weight, shared)
        return self._decode(filled, x, shared, [])


def _grid(grid: tuple[int, int]) -> str:
    return f"{grid[0]} x {grid[1]}"
