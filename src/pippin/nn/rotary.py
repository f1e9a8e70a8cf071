# SPDX-License-Identifier: Apache-2.0
"""Rotary positions on 2-D grids (Su et al. 2021, arXiv 2104.09864; EVA-02, arXiv 2303.11331)."""

from functools import lru_cache
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

CPU = torch.device("cpu")
Layout = Literal["halves", "alternating"]
"""Order of the pairs of features in a head. halves: all pairs of the row, then all of the column
(LightningDiT, JiT); alternating: column, row, column, row, ... (DDT)."""


class Rotary(NamedTuple):
    """Rotations of queries and keys: cosines and sines of each token's angles, in fp32, for all
    images or for each."""

    cos: Float[Tensor, "*batch tokens pairs"]
    sin: Float[Tensor, "*batch tokens pairs"]

    def rotate(
        self, x: Float[Tensor, "batch heads tokens dim"]
    ) -> Float[Tensor, "batch heads tokens dim"]:
        """Turn each pair of features (2m, 2m + 1) by its angle, in fp32; keeps the dtype."""
        # tokens before heads in memory, so that attention's result needs no copy to be joined
        a, b = x.transpose(1, 2).unflatten(-1, (-1, 2)).unbind(-1)  # each (B, N, H, d/2)
        cos, sin = self.cos.unsqueeze(-2), self.sin.unsqueeze(-2)
        pairs = torch.stack([a * cos - b * sin, b * cos + a * sin], dim=-1)
        return pairs.flatten(-2).transpose(1, 2).to(x.dtype)

    def take(self, index: Int[Tensor, "batch kept"]) -> "Rotary":
        """Rotations of the tokens at the indices of each image."""
        return Rotary(self.cos[index], self.sin[index])


def grid_rotary(
    grid: tuple[int, int],
    dim: int,
    device: torch.device,
    base_grid: int | None = None,
    unrotated: int = 0,
) -> Rotary:
    """Rotations of a grid in unit steps, or resampled over the limits of a base grid.

    Args:
        grid: (rows, columns).
        dim: width of a head, a multiple of 4.
        base_grid: None = unit steps; otherwise every grid covers 0 .. base_grid along each axis.
        unrotated: number of tokens in front of the grid's, which are not turned.
    """
    row_step, column_step = ((base_grid or side) / side for side in grid)
    return rotary_2d(
        *grid, dim, device, row_step=row_step, column_step=column_step, unrotated=unrotated
    )


@lru_cache(maxsize=16)
@torch.inference_mode(False)  # a table cached in sampling must be usable in training
def rotary_2d(
    rows: int,
    columns: int,
    dim: int,
    device: torch.device = CPU,
    *,
    row_step: float = 1.0,
    column_step: float = 1.0,
    unrotated: int = 0,
    layout: Layout = "halves",
) -> Rotary:
    """Rotations of a grid of equal steps, tokens in row-major order.

    A position p turns pair k of its axis by p 10000^(-k / (dim / 4)), k = 0 .. dim / 4 - 1.
    Computed on the CPU in fp64 whatever the default device, and cached per ``device``. Call it
    outside compiled code, which would compute it at every call.

    Args:
        rows, columns: the grid.
        dim: width of a head, a multiple of 4.
        row_step, column_step: distance of neighbouring positions.
        unrotated: number of tokens in front of the grid's, of angle 0.
        layout: order of the pairs.
    """
    assert dim % 4 == 0, dim
    frequencies = 10000.0 ** (-_count(dim // 4) / (dim // 4))
    row = _count(rows).repeat_interleave(columns) * row_step
    column = _count(columns).repeat(rows) * column_step
    by_row, by_column = row[:, None] * frequencies, column[:, None] * frequencies  # (N, dim / 4)
    if layout == "halves":
        angles = torch.cat([by_row, by_column], dim=-1)
    else:
        angles = torch.stack([by_column, by_row], dim=-1).flatten(1)
    angles = torch.cat([angles.new_zeros(unrotated, dim // 2), angles])
    return Rotary(angles.cos().float().to(device), angles.sin().float().to(device))


def _count(end: int) -> Float[Tensor, " end"]:
    return torch.arange(end, dtype=torch.float64, device="cpu")
