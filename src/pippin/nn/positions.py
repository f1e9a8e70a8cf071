# SPDX-License-Identifier: Apache-2.0
"""Positions on 2-D grids: embeddings, and learned biases of attention scores."""

from functools import lru_cache
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from pippin.nn.initialise import Init, normal

CPU = torch.device("cpu")


def sincos_1d(positions: Float[Tensor, " length"], width: int) -> Float[Tensor, "length width"]:
    """[sin(x w_k), cos(x w_k)] with w_k = 10000^(-k / (width / 2)) (Vaswani et al. 2017)."""
    half = width // 2
    frequencies = 10000.0 ** (
        -torch.arange(half, dtype=torch.float64, device=positions.device) / half
    )
    angles = positions.to(torch.float64)[:, None] * frequencies
    return torch.cat([angles.sin(), angles.cos()], dim=-1)


@lru_cache(maxsize=16)
@torch.inference_mode(False)  # a table cached in sampling must be usable in training
def sincos_2d(
    rows: int,
    columns: int,
    width: int,
    device: torch.device = CPU,
    *,
    row_step: float = 1.0,
    column_step: float = 1.0,
) -> Float[Tensor, "tokens width"]:
    """Table for a grid of equal steps, tokens in row-major order, in fp32.

    The first half of the features encodes the column, the second the row, as in DiT and MAE.
    Computed on the CPU in fp64 whatever the default device, and cached per ``device``.
    """
    row = torch.arange(rows, dtype=torch.float64, device="cpu").repeat_interleave(columns)
    column = torch.arange(columns, dtype=torch.float64, device="cpu").repeat(rows)
    halves = (sincos_1d(column * column_step, width // 2), sincos_1d(row * row_step, width // 2))
    table = torch.cat(halves, dim=-1)
    return table.float().to(device)


def grid_positions(
    grid: tuple[int, int],
    width: int,
    device: torch.device,
    base_grid: int | None = None,
    interpolation: float = 1.0,
) -> Float[Tensor, "tokens width"]:
    """Table of a grid in unit steps, or resampled over the limits of a base grid.

    Over the same limits, a grid of twice the side has half the step: positions are resampled,
    where unit steps would extrapolate (Berrada et al. 2024).

    Args:
        base_grid: None = unit steps; otherwise every grid covers 0 .. base_grid along each axis.
        interpolation: divisor of the positions (PixArt-alpha).
    """
    steps = [(base_grid or side) / side / interpolation for side in grid]
    return sincos_2d(*grid, width, device, row_step=steps[0], column_step=steps[1])


class PositionTable(nn.Module):
    """One vector per grid position, in row-major order; initialised to the sine-cosine table of
    unit steps.

    Args:
        grid: (rows, columns).
        trained: whether it is trainable.
    """

    def __init__(self, grid: tuple[int, int], width: int, *, trained: bool) -> None:
        super().__init__()
        table = torch.empty(grid[0] * grid[1], width)
        self.weight = nn.Parameter(table, requires_grad=trained)

        def fill(tensor: Tensor, _: torch.Generator) -> None:
            tensor.copy_(sincos_2d(*grid, width))

        self.inits: dict[str, Init] = {"weight": fill}


class RelativePositionBias(nn.Module):
    """One number per head and per offset (rows, columns) of key from query.

    The published table of MDTv2, taken from BEiT, has three more rows, for a class token that this
    family lacks; they are kept but never read, so that its weights fit.
    """

    inits: ClassVar[dict[str, Init]] = {"table": normal(0.02)}

    def __init__(self, grid: tuple[int, int], num_heads: int) -> None:
        super().__init__()
        self.grid = grid
        rows, columns = grid
        self.table = nn.Parameter(torch.zeros((2 * rows - 1) * (2 * columns - 1) + 3, num_heads))

    def forward(
        self,
        rows: Int[Tensor, "positions positions"],
        kept: Int[Tensor, "batch kept"] | None = None,
    ) -> Float[Tensor, "_ heads tokens tokens"]:
        """Bias of all pairs, with first axis 1; or of the pairs among each image's kept tokens.

        Args:
            rows: :func:`offset_rows` of the grid, the same for all blocks of a model.
            kept: indices of the unmasked tokens, in order.
        """
        bias = self.table[rows]  # (P, P, H)
        if kept is None:
            return bias.permute(2, 0, 1)[None]
        return bias[kept[:, :, None], kept[:, None, :]].permute(0, 3, 1, 2)


@lru_cache(maxsize=16)
@torch.inference_mode(False)  # a table cached in sampling must be usable in training
def offset_rows(rows: int, columns: int, device: torch.device) -> Int[Tensor, "tokens tokens"]:
    """Row of the table for each query and key; computed on the CPU, cached per device. Call it
    outside compiled code, which would compute and copy it at every call."""
    row = torch.arange(rows, device="cpu").repeat_interleave(columns)
    column = torch.arange(columns, device="cpu").repeat(rows)
    down = row[:, None] - row[None, :] + rows - 1
    right = column[:, None] - column[None, :] + columns - 1
    return (down * (2 * columns - 1) + right).to(device)
