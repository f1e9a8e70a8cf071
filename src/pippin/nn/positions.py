# SPDX-License-Identifier: Apache-2.0
"""Where a token stands: sine-cosine features of two-dimensional grids, computed or as a table."""

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
@torch.inference_mode(False)  # a table kept from sampling must serve training too
def sincos_2d(
    rows: int,
    columns: int,
    width: int,
    device: torch.device = CPU,
    *,
    row_step: float = 1.0,
    column_step: float = 1.0,
) -> Float[Tensor, "tokens width"]:
    """A table for a grid of equal steps, tokens in rows, then columns, in fp32.

    The first half of the features encodes the column, the second the row, as in DiT and MAE.
    Computed on the CPU in fp64 whatever the default device, and kept for each ``device``.
    """
    row = torch.arange(rows, dtype=torch.float64, device="cpu").repeat_interleave(columns)
    column = torch.arange(columns, dtype=torch.float64, device="cpu").repeat(rows)
    halves = (sincos_1d(column * column_step, width // 2), sincos_1d(row * row_step, width // 2))
    table = torch.cat(halves, dim=-1)
    return table.float().to(device)


def laid_positions(
    grid: tuple[int, int],
    width: int,
    device: torch.device,
    base_grid: int | None = None,
    interpolation: float = 1.0,
) -> Float[Tensor, "tokens width"]:
    """The table of a grid in unit steps, or laid over the limits of a base grid.

    Laid over them, a grid of twice the side has half the step: positions are resampled where unit
    steps would extrapolate (Berrada et al. 2024).

    Args:
        base_grid: None = unit steps; otherwise every grid covers 0 .. base_grid each way.
        interpolation: positions are divided by it (PixArt-alpha).
    """
    steps = [(base_grid or side) / side / interpolation for side in grid]
    return sincos_2d(*grid, width, device, row_step=steps[0], column_step=steps[1])


class PositionTable(nn.Module):
    """A vector for each place of a grid, tokens in rows, then columns; starts as the sine-cosine
    table of unit steps.

    Args:
        grid: (rows, columns).
        trained: whether training moves it.
    """

    def __init__(self, grid: tuple[int, int], width: int, *, trained: bool) -> None:
        super().__init__()
        places = torch.empty(grid[0] * grid[1], width)
        self.weight = nn.Parameter(places, requires_grad=trained)

        def fill(tensor: Tensor, _: torch.Generator) -> None:
            tensor.copy_(sincos_2d(*grid, width))

        self.inits: dict[str, Init] = {"weight": fill}
