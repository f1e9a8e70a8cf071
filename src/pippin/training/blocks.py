# SPDX-License-Identifier: Apache-2.0
"""Block by block: torch.compile and gradient checkpointing.

Under gradient checkpointing, blocks recompute their activations instead of storing them
(Chen et al. 2016, arXiv 1604.06174).
"""

from collections.abc import Iterable
from types import MethodType
from typing import Any

import torch
import torch._dynamo
from torch import nn
from torch.utils.checkpoint import checkpoint

from pippin.denoisers.config import DenoiserConfig

MAX_SHAPES = 8
"""Number of batch shapes that a block is compiled for: training, validation, previews, ...; and
one for each further bucket."""


def compile_blocks(
    denoiser: DenoiserConfig, blocks: Iterable[nn.Module], *, num_shapes: int = 1
) -> None:
    """Compile each block separately.

    Blocks of one class share their code object, and torch counts compilations per code object:
    with blocks that differ, as in a UNet, its limits (8, and 256 in all) are reached soon and the
    rest would stay eager. The denoiser says whether shapes vary: a UNet's are static, or torch
    would treat differing blocks as one with dynamic shapes. Each is compiled for each shape; in
    torch 2.14 Inductor fails at them with dynamic shapes on a CPU. MDTv2's vary: each step masks
    another share of tokens. Transformers are compiled for the first shape, and at the second for
    all others.

    Under DDP torch would split a block at the end of a gradient bucket, to overlap its all-reduce
    with the rest of the backward pass, and refuse checkpointed blocks. Buckets are reduced
    between blocks anyway.

    Args:
        denoiser: the denoiser that owns the blocks.
        blocks: its modules, of pippin or of another implementation.
        num_shapes: number of shapes of training latents, one for each aspect-ratio bucket.
    """
    modules = list(blocks)
    config, limit = torch._dynamo.config, (MAX_SHAPES + num_shapes - 1) * len(modules)
    config.recompile_limit = max(config.recompile_limit, limit)
    config.accumulated_recompile_limit = max(config.accumulated_recompile_limit, limit)
    config.optimize_ddp = False
    for block in modules:
        block.compile(dynamic=denoiser.dynamic_shapes)


def checkpoint_blocks(blocks: nn.ModuleList, every: int) -> None:
    """Checkpoint every n-th block: it stores only its input and recomputes forward when needed.

    Numbers stay the same. Blocks draw no random numbers, so no RNG state is stored. They may be
    compiled before or after.

    Args:
        blocks: blocks of a denoiser.
        every: 1 = all blocks; 0 = none.
    """
    for block in list(blocks)[::every] if every else []:
        block.forward = MethodType(_checkpointed, block)  # bound, so that copies bind their own


def _checkpointed(block: nn.Module, *args: Any, **kwargs: Any) -> Any:
    forward = type(block).forward
    if not torch.is_grad_enabled():
        return forward(block, *args, **kwargs)
    return checkpoint(
        forward, block, *args, use_reentrant=False, preserve_rng_state=False, **kwargs
    )
