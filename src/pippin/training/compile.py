# SPDX-License-Identifier: Apache-2.0
"""torch.compile, block by block."""

from collections.abc import Iterable

import torch._dynamo
from torch import nn

SHAPES = 8
"""Batches of how many shapes a block is compiled for: training, validation, previews, ..."""


def compile_blocks(blocks: Iterable[nn.Module]) -> None:
    """Compile each block by itself, for fixed shapes.

    Blocks of one class share their code, and torch counts what it compiled for a code: where
    blocks differ, as in a UNet, its limit of 8 is reached at once and the rest would stay eager.
    Shapes are fixed because all blocks of a UNet differ in them, which torch would otherwise take
    for shapes that change.
    """
    every = list(blocks)
    config = torch._dynamo.config
    config.recompile_limit = max(config.recompile_limit, SHAPES * len(every))
    for block in every:
        block.compile(dynamic=False)
