# SPDX-License-Identifier: Apache-2.0
"""Gradient checkpointing: blocks that compute their activations again instead of keeping them
(Chen et al. 2016, arXiv 1604.06174)."""

from types import MethodType
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint


def recompute_blocks(blocks: nn.ModuleList, every: int) -> None:
    """Make every n-th block keep its input alone, and run forward once more in the backward pass.

    Numbers stay the same. Blocks hold nothing random, so no random state is kept; they may be
    compiled before or after.

    Args:
        blocks: of a denoiser.
        every: 1 = all blocks; 0 = none.
    """
    for block in list(blocks)[::every] if every else []:
        block.forward = MethodType(_recomputed, block)  # bound, so that copies bind their own


def _recomputed(block: nn.Module, *arguments: Any, **more: Any) -> Any:
    forward = type(block).forward
    if not torch.is_grad_enabled():
        return forward(block, *arguments, **more)
    return checkpoint(
        forward, block, *arguments, use_reentrant=False, preserve_rng_state=False, **more
    )
