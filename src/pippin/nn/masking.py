# SPDX-License-Identifier: Apache-2.0
"""Masking of tokens: the kept ones of a shuffle, and their way back to the grid."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from pippin.nn.embeddings import from_patches
from pippin.types import KeptTokens

Indices = Int[Tensor, "batch kept"]
"""Raster indices of the kept tokens of each image."""


def num_kept(num_tokens: int, ratio: float) -> int:
    """Number of kept tokens if a share of ``ratio`` is hidden: rounded down, and at least one."""
    return max(1, int(num_tokens * (1 - ratio)))


def kept_tokens(scores: Float[Tensor, "batch tokens"], ratio: float) -> Indices:
    """Raster indices of the kept tokens, ascending.

    Args:
        scores: random numbers; the tokens with the smallest are kept.
        ratio: share of hidden tokens; 0 keeps all.
    """
    order = scores.argsort(dim=1)
    return order[:, : num_kept(scores.shape[1], ratio)].sort(dim=1).values


def gather_tokens(
    x: Float[Tensor, "batch tokens width"], index: Int[Tensor, "batch chosen"]
) -> Float[Tensor, "batch chosen width"]:
    """Tokens at the indices of each image; (B, N, D) -> (B, K, D)."""
    return x.gather(1, index[..., None].expand(-1, -1, x.shape[-1]))


def scatter_tokens(
    x: Float[Tensor, "batch kept width"], kept: Indices, num_tokens: int
) -> Float[Tensor, "batch tokens width"]:
    """Inverse of :func:`gather_tokens`, with 0 at hidden tokens; (B, K, D) -> (B, N, D)."""
    empty = x.new_zeros(x.shape[0], num_tokens, x.shape[-1])
    return empty.scatter(1, kept[..., None].expand(-1, -1, x.shape[-1]), x)


def kept_patches(kept: Indices, grid: tuple[int, int], patch_size: int) -> KeptTokens:
    """Kept tokens, and the mask of the latents that their patches cover.

    Args:
        kept: raster indices of the tokens.
        grid: (rows, columns) of all tokens.
        patch_size: side of a patch.
    """
    ones = torch.ones(*kept.shape, patch_size**2, device=kept.device)
    num_tokens = grid[0] * grid[1]
    patches = from_patches(scatter_tokens(ones, kept, num_tokens), grid, patch_size)
    return KeptTokens(index=kept, num_tokens=num_tokens, latents=patches)
