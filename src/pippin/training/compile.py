# SPDX-License-Identifier: Apache-2.0
"""torch.compile, block by block."""

from collections.abc import Iterable

import torch._dynamo
from torch import nn

from pippin.denoisers.config import DenoiserConfig, UNetConfig

SHAPES = 8
"""Batches of how many shapes a block is compiled for: training, validation, previews, ..."""


def compile_blocks(denoiser: DenoiserConfig, blocks: Iterable[nn.Module]) -> None:
    """Compile each block by itself.

    Blocks of one class share their code, and torch counts what it compiled for a code: where
    blocks differ, as in a UNet, its limit of 8 is reached at once and the rest would stay eager.
    A UNet's shapes are fixed, and that is said, because torch would take blocks that differ in
    theirs for one whose shapes change. MDTv2's do change: each step hides another share of tokens.

    Under DDP torch would cut a block where a bucket of gradients ends, to exchange it while the
    rest of the block goes backward, and refuse blocks that are computed again. Buckets are
    exchanged between blocks anyway.

    Args:
        denoiser: whose blocks they are.
        blocks: what is called, ours or another implementation's of the same denoiser.
    """
    every = list(blocks)
    config = torch._dynamo.config
    config.recompile_limit = max(config.recompile_limit, SHAPES * len(every))
    config.optimize_ddp = False
    for block in every:
        block.compile(dynamic=False if isinstance(denoiser, UNetConfig) else None)
