# SPDX-License-Identifier: Apache-2.0
"""torch.compile, block by block."""

from collections.abc import Iterable

import torch._dynamo
from torch import nn

from pippin.denoisers.config import DenoiserConfig, UNetConfig

MAX_SHAPES = 8
"""Number of batch shapes that a block is compiled for: training, validation, previews, ..."""


def compile_blocks(denoiser: DenoiserConfig, blocks: Iterable[nn.Module]) -> None:
    """Compile each block separately.

    Blocks of one class share their code object, and torch counts compilations per code object:
    with blocks that differ, as in a UNet, its limit of 8 is reached at once and the rest would
    stay eager. A UNet's shapes are declared static; otherwise torch would treat differing blocks
    as one with dynamic shapes. MDTv2's are dynamic: each step masks another share of tokens.

    Under DDP torch would split a block at the end of a gradient bucket, to overlap its all-reduce
    with the rest of the backward pass, and refuse checkpointed blocks. Buckets are reduced
    between blocks anyway.

    Args:
        denoiser: the denoiser that owns the blocks.
        blocks: its modules, of pippin or of another implementation.
    """
    modules = list(blocks)
    config = torch._dynamo.config
    config.recompile_limit = max(config.recompile_limit, MAX_SHAPES * len(modules))
    config.optimize_ddp = False
    for block in modules:
        block.compile(dynamic=False if isinstance(denoiser, UNetConfig) else None)
