# SPDX-License-Identifier: Apache-2.0
"""Position embeddings: sine-cosine features of 2-D grids, computed or as a parameter table."""

from functools import lru_cache

import torch
from jaxtyping import Float
from torch import Tensor, nn

from pippin.nn.initialise import Init

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
