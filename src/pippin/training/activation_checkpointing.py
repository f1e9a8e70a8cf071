# SPDX-License-Identifier: Apache-2.0
"""Gradient checkpointing: blocks recompute their activations instead of storing them
(Chen et al. 2016, arXiv 1604.06174)."""

from types import MethodType
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint


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
