# SPDX-License-Identifier: Apache-2.0
"""Learned tables of a grid, resized to another grid."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import interpolate

Grid = tuple[int, int]
"""(rows, columns) of patches."""
CLASS_TOKEN_ROWS = 3
"""At the end of a table of relative biases; see :mod:`pippin.nn.relative`."""


def resample_positions(
    table: Float[Tensor, "places width"], old: Grid, new: Grid
) -> Float[Tensor, "new_places width"]:
    """A vector for each place of a grid, bicubic to another grid."""
    assert len(table) == old[0] * old[1], (table.shape, old)
    return _bicubic(table, old, new)


def resample_biases(
    table: Float[Tensor, "offsets heads"], old: Grid, new: Grid
) -> Float[Tensor, "new_offsets heads"]:
    """A number for each offset within a grid, bicubic: offsets mean shares of the picture.

    The offset of zero is the middle of either table and keeps its value; the rows for a class
    token are copied.
    """
    offsets, rest = table[:-CLASS_TOKEN_ROWS], table[-CLASS_TOKEN_ROWS:]
    old_sides, new_sides = (_offsets(grid) for grid in (old, new))
    assert len(offsets) == old_sides[0] * old_sides[1], (table.shape, old)
    return torch.cat([_bicubic(offsets, old_sides, new_sides, align_corners=True), rest])


def _offsets(grid: Grid) -> Grid:
    return 2 * grid[0] - 1, 2 * grid[1] - 1


def _bicubic(table: Tensor, old: Grid, new: Grid, *, align_corners: bool = False) -> Tensor:
    if old == new:
        return table
    image = table.T.reshape(1, -1, *old).float()
    # antialias also chooses the kernel that keeps a straight line straight (Keys 1981); with
    # aligned corners it misses the middle
    resized = interpolate(
        image,
        size=new,
        mode="bicubic",
        align_corners=align_corners,
        antialias=not align_corners,
    )
    return resized.flatten(2)[0].T.to(table.dtype)
