# SPDX-License-Identifier: Apache-2.0
"""mmDiT: joint attention of image and condition tokens, each stream with its own weights
(Esser et al. 2024, arXiv 2403.03206)."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from pippin.denoisers.denoiser import Denoiser, TokenUse, Widths
from pippin.denoisers.mmdit.config import MMDiTConfig
from pippin.nn.attention import QueryKeyValue, attend
from pippin.nn.blocks import MLP, ModulatedOutput, Modulation, modulate
from pippin.nn.embeddings import PatchEmbedding, from_patches, patch_grid
from pippin.nn.initialise import Linear
from pippin.nn.norms import layer_norm
from pippin.nn.positions import PositionTable, grid_positions
from pippin.types import Embedded, Latents, Masking, Prediction

Tokens = Float[Tensor, "batch tokens width"]
Context = Float[Tensor, "batch condition_tokens width"]


class Stream(nn.Module):
    """Stream of one modality in a joint block."""

    def __init__(self, config: MMDiTConfig) -> None:
        super().__init__()
        width = config.width
        self.modulation = Modulation(width, width, 6)
        self.attention_in = QueryKeyValue(width, config.num_heads, qk_norm=config.qk_norm)
        self.attention_out = Linear(width, width)
        self.mlp = MLP(width, config.mlp_ratio)

    def update(self, x: Tokens, attended: Tokens, vectors: tuple[Tensor, ...]) -> Tokens:
        """Gated attention and MLP updates, from the output of joint attention."""
        gate1, shift2, scale2, gate2 = vectors
        x = x + gate1[:, None] * self.attention_out(attended)
        return x + gate2[:, None] * self.mlp(modulate(layer_norm(x), shift2, scale2))


class LastContextStream(nn.Module):
    """Context stream of the last block: the image reads it, and it is not updated."""

    def __init__(self, config: MMDiTConfig) -> None:
        super().__init__()
        self.modulation = Modulation(config.width, config.width, 2)
        self.attention_in = QueryKeyValue(config.width, config.num_heads, qk_norm=config.qk_norm)


class JointBlock(nn.Module):
    """Joint attention block of both streams; context tokens come first."""

    def __init__(self, config: MMDiTConfig, *, last: bool) -> None:
        super().__init__()
        self.image = Stream(config)
        self.context: Stream | LastContextStream = (
            LastContextStream(config) if last else Stream(config)
        )

    def forward(
        self,
        x: Tokens,
        context: Context,
        modulation: Float[Tensor, "batch width"],
        mask: Bool[Tensor, "batch keys"] | None,
    ) -> tuple[Tokens, Context]:
        """Apply one block; the mask covers context and image tokens together."""
        shift_x, scale_x, *rest_x = self.image.modulation(modulation)  # each (B, D)
        shift_c, scale_c, *rest_c = self.context.modulation(modulation)
        qkv_x = self.image.attention_in(modulate(layer_norm(x), shift_x, scale_x))
        qkv_c = self.context.attention_in(modulate(layer_norm(context), shift_c, scale_c))
        q, k, v = (torch.cat([c, i], dim=2) for c, i in zip(qkv_c, qkv_x, strict=True))
        lengths = [context.shape[1], x.shape[1]]
        if isinstance(self.context, LastContextStream):
            attended = attend(q[:, :, lengths[0] :], k, v, mask)  # without the context's queries
            return self.image.update(x, attended, tuple(rest_x)), context
        attended_c, attended_x = attend(q, k, v, mask).split(lengths, dim=1)  # (B, L | N, D)
        x = self.image.update(x, attended_x, tuple(rest_x))
        return x, self.context.update(context, attended_c, tuple(rest_c))


class CroppedTable(PositionTable):
    """Square table of positions, of which a grid reads the centre; not trained.

    Published weights contain their own table.
    """

    def __init__(self, side: int, width: int) -> None:
        super().__init__((side, side), width, trained=False)
        self.side = side

    def forward(self, grid: tuple[int, int]) -> Float[Tensor, "tokens width"]:
        """Positions of a grid (rows, columns).

        Raises:
            ValueError: a grid larger than the table.
        """
        rows, columns = grid
        if max(grid) > self.side:
            raise ValueError(
                f"a grid of {rows} x {columns} patches does not fit into the table of "
                f"{self.side} x {self.side} positions; set a larger denoiser.table_side"
            )
        top, left = (self.side - rows) // 2, (self.side - columns) // 2
        table = self.weight.unflatten(0, (self.side, self.side))
        return table[top : top + rows, left : left + columns].flatten(0, 1)


class MMDiT(Denoiser):
    """Multimodal diffusion transformer of SD3."""

    token_use: TokenUse = "joint"

    def __init__(self, config: MMDiTConfig, latent_channels: int) -> None:
        super().__init__()
        width = config.width
        self.widths = Widths(token=width, modulation=width, time_features=256)
        self.patch_size, self.base_grid = config.patch_size, config.base_grid
        self.patches = PatchEmbedding(latent_channels, config.patch_size, width)
        self.blocks = nn.ModuleList(
            JointBlock(config, last=i == config.depth - 1) for i in range(config.depth)
        )
        self.table = CroppedTable(config.table_side, width) if config.table_side else None
        self.output = ModulatedOutput(width, width, config.patch_size**2 * latent_channels)

    def forward(
        self, x_t: Latents, embedded: Embedded, masking: Masking | None = None
    ) -> Prediction:
        """(B, C, H, W) -> mean (B, C, H, W)."""
        assert embedded.tokens is not None
        grid = patch_grid(x_t, self.patch_size)
        x, context, mask = self.patches(x_t), embedded.tokens, embedded.mask  # (B, N | L, D)
        x = x + self._positions(grid, x)  # fp32 from here on, also under bf16 autocast
        if mask is not None:
            mask = torch.cat([mask, mask.new_ones(x.shape[:2])], dim=1)
        hidden = None
        for block in self.blocks:
            x, context = block(x, context, embedded.modulation, mask)
            hidden = x if self.is_aligned(block) else hidden
        output = self.output(x, embedded.modulation)
        return Prediction(mean=from_patches(output, grid, self.patch_size), hidden=hidden)

    def _positions(self, grid: tuple[int, int], x: Tokens) -> Float[Tensor, "tokens width"]:
        if self.table is None:
            return grid_positions(grid, x.shape[-1], x.device, self.base_grid)
        return self.table(grid)
