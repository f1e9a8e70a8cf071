# SPDX-License-Identifier: Apache-2.0
"""Learned bias of attention scores for each offset between two grid positions."""

from functools import lru_cache
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from pippin.nn.initialise import Init, normal


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
