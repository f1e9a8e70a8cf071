# SPDX-License-Identifier: Apache-2.0
"""Rotary positions against complex numbers, and their defining property."""

import math

import pytest
import torch

from pippin.nn.rotary import grid_rotary, rotary_2d

CPU = torch.device("cpu")


def turned(x, grid, row_position, column_position, pair_axis):
    """Rotation of one head's features, pair by pair, as complex numbers.

    ``pair_axis`` gives the axis and the index of the frequency of each pair.
    """
    dim = x.shape[-1]
    out = x.clone()
    for token in range(grid[0] * grid[1]):
        row, column = divmod(token, grid[1])
        position = {"row": row_position(row), "column": column_position(column)}
        for m in range(dim // 2):
            axis, k = pair_axis(m)
            angle = position[axis] * 10000 ** (-k / (dim / 4))
            pair = complex(x[token, 2 * m], x[token, 2 * m + 1])
            pair *= complex(math.cos(angle), math.sin(angle))
            out[token, 2 * m], out[token, 2 * m + 1] = pair.real, pair.imag
    return out


def halves(m):
    return ("row", m) if m < 4 else ("column", m - 4)


def alternating(m):
    return ("row" if m % 2 else "column"), m // 2


def draw(tokens, dim, seed=0):
    return torch.randn(1, 1, tokens, dim, generator=torch.Generator().manual_seed(seed))


def test_halves_turn_by_row_then_by_column_on_an_oblong_grid():
    x = draw(15, 16)
    expected = turned(x[0, 0], (3, 5), float, float, halves)
    result = grid_rotary((3, 5), 16, CPU).rotate(x)
    torch.testing.assert_close(result[0, 0], expected, atol=1e-6, rtol=0)


def test_alternating_pairs_over_fixed_limits():
    """Positions from 0 to 16 inclusive on each axis, column and row in turn (DDT)."""
    x = draw(15, 16)
    expected = turned(x[0, 0], (3, 5), lambda r: 8.0 * r, lambda c: 4.0 * c, alternating)
    rotary = rotary_2d(3, 5, 16, row_step=16 / 2, column_step=16 / 4, layout="alternating")
    torch.testing.assert_close(rotary.rotate(x)[0, 0], expected, atol=1e-5, rtol=0)


def test_tokens_in_front_are_not_turned():
    x = draw(2 + 6, 8)
    result = grid_rotary((2, 3), 8, CPU, unrotated=2).rotate(x)
    assert torch.equal(result[:, :, :2], x[:, :, :2])
    plain = grid_rotary((2, 3), 8, CPU).rotate(x[:, :, 2:])
    assert torch.equal(result[:, :, 2:], plain)


def test_scores_depend_on_offsets_only():
    """All pairs of tokens at the same offset have the same score; others differ."""
    query, key = draw(1, 16, 1).expand(-1, -1, 12, -1), draw(1, 16, 2).expand(-1, -1, 12, -1)
    rotary = grid_rotary((3, 4), 16, CPU)
    scores = (rotary.rotate(query) @ rotary.rotate(key).transpose(-2, -1))[0, 0]
    scores = scores.reshape(3, 4, 3, 4)
    assert scores[0, 0, 1, 2].item() == pytest.approx(scores[1, 1, 2, 3].item(), abs=1e-5)
    assert abs(scores[0, 0, 1, 2] - scores[0, 0, 2, 1]) > 1e-3


def test_a_base_grid_keeps_the_range_of_positions():
    small, large = grid_rotary((4, 4), 8, CPU), grid_rotary((8, 8), 8, CPU, base_grid=4)
    corners = large.cos.reshape(8, 8, -1)[::2, ::2].reshape(16, -1)
    assert torch.equal(corners, small.cos)


def test_rotation_keeps_the_dtype_and_the_length():
    x = draw(6, 8)
    rotary = grid_rotary((2, 3), 8, CPU)
    assert rotary.rotate(x.bfloat16()).dtype == torch.bfloat16
    torch.testing.assert_close(rotary.rotate(x).norm(dim=-1), x.norm(dim=-1))
