# SPDX-License-Identifier: Apache-2.0
"""Resampling of learned tables to another grid."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import grid_sample, interpolate

Grid = tuple[int, int]
"""(rows, columns) of patches."""
CLASS_TOKEN_ROWS = 3
"""Number of rows at the end of a relative bias table; see :mod:`pippin.nn.relative`."""


def resample_positions(
    table: Float[Tensor, "positions width"], old: Grid, new: Grid
) -> Float[Tensor, "new_places width"]:
    """Resample a table of one vector per grid position to another grid, bicubically."""
    assert len(table) == old[0] * old[1], (table.shape, old)
    return _bicubic(table, old, new)


def resample_biases(
    table: Float[Tensor, "offsets heads"], old: Grid, new: Grid
) -> Float[Tensor, "new_offsets heads"]:
    """Resample a table of one number per offset, bicubically: an offset is a share of the image.

    d patches of the new grid correspond to d old / new patches of the old one. The rows for a
    class token are copied.
    """
    offsets, rest = table[:-CLASS_TOKEN_ROWS], table[-CLASS_TOKEN_ROWS:]
    sides = tuple(2 * side - 1 for side in old)
    assert len(offsets) == sides[0] * sides[1], (table.shape, old)
    if old == new:
        return table
    image = offsets.T.reshape(1, -1, *sides).float()
    down, right = (_offset_positions(a, b) for a, b in zip(old, new, strict=True))
    positions = torch.stack(torch.meshgrid(down, right, indexing="ij"), -1).flip(-1)[None]
    sampled = grid_sample(
        image, positions.float(), mode="bicubic", padding_mode="border", align_corners=True
    )
    return torch.cat([sampled.flatten(2)[0].T.to(table.dtype), rest])


def _offset_positions(old: int, new: int) -> Float[Tensor, " offsets"]:
    """Position of each new offset in the old table, from -1 (first row) to 1 (last row)."""
    offsets = torch.arange(-(new - 1), new, dtype=torch.float64) * old / new
    return offsets / max(old - 1, 1)


def _bicubic(table: Tensor, old: Grid, new: Grid) -> Tensor:
    if old == new:
        return table
    image = table.T.reshape(1, -1, *old).float()
    # antialias also chooses the kernel that keeps a straight line straight (Keys 1981)
    resized = interpolate(image, size=new, mode="bicubic", antialias=True)
    return resized.flatten(2)[0].T.to(table.dtype)
