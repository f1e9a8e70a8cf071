# SPDX-License-Identifier: Apache-2.0
"""Self-, cross- and joint attention over one function with two backends."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from pippin.nn.config import NormName
from pippin.nn.initialise import Linear, zeros
from pippin.nn.norms import query_key_norm
from pippin.nn.rotary import Rotary

Queries = Float[Tensor, "batch heads queries dim"]
Keys = Float[Tensor, "batch heads keys dim"]


FUSED_FROM_KEYS = 1024
"""Number of keys from which bf16 on a CPU uses the fused kernel. On two cores with AVX512-BF16,
three plain operations took 0.1 to 0.8 of its time forward and backward at 64 to 410 keys, 1.1 to
1.3 at 1024."""
FUSED_FROM_KEYS_FP32 = 80
"""The same in fp32: 0.7 of its time at 20 and 68 keys, 0.96 at 80, 1.04 at 128."""


def attend(
    query: Queries,
    key: Keys,
    value: Keys,
    mask: Bool[Tensor, "batch keys"] | None = None,
    bias: Float[Tensor, "_ heads queries keys"] | None = None,
) -> Float[Tensor, "batch queries width"]:
    """softmax(q k^T / sqrt(dim) + bias) v, heads side by side in the last axis.

    Uses the fused kernel, except for few keys on a CPU, where it is slower, above all in the
    backward pass: in bf16, and in fp32 in compiled code, whose rounding differs anyway.

    Args:
        mask: True where a key may be read. Each row must allow at least one key.
        bias: attn_mask to the scaled scores; the first axis is the batch, or 1.
    """
    fused_is_slow = query.device.type == "cpu" and key.shape[-2] < _fused_from(query.dtype)
    backend = _explicit if fused_is_slow else _fused
    result = backend(query, key, value, _attention_mask(mask, bias))
    return result.transpose(1, 2).flatten(2)


def _fused_from(dtype: torch.dtype) -> int:
    """Number of keys from which the fused kernel is the faster one on a CPU."""
    if dtype == torch.bfloat16:
        return FUSED_FROM_KEYS
    return FUSED_FROM_KEYS_FP32 if torch.compiler.is_compiling() else 0


def _attention_mask(mask: Tensor | None, bias: Tensor | None) -> Tensor | None:
    """Boolean mask, or additive bias of the scores."""
    if mask is None:
        return bias
    mask = mask[:, None, None, :]
    return mask if bias is None else bias.masked_fill(~mask, -torch.inf)


def _explicit(query: Queries, key: Keys, value: Keys, attn_mask: Tensor | None) -> Queries:
    scores = (query * query.shape[-1] ** -0.5) @ key.transpose(-2, -1)
    if attn_mask is not None and attn_mask.dtype == torch.bool:
        scores = scores.masked_fill(~attn_mask, -torch.inf)
    elif attn_mask is not None:
        scores = scores + attn_mask
    return scores.softmax(dim=-1).to(value.dtype) @ value


def _fused(query: Queries, key: Keys, value: Keys, attn_mask: Tensor | None) -> Queries:
    if attn_mask is not None and attn_mask.dtype != torch.bool:
        attn_mask = attn_mask.to(query.dtype)
    return F.scaled_dot_product_attention(query, key, value, attn_mask=attn_mask)


class QueryKeyValue(nn.Module):
    """One linear layer to queries, keys and values, split into heads.

    Args:
        qk_norm: norm of queries and keys; True = rms, False = none.
    """

    def __init__(
        self, width: int, num_heads: int, *, qk_norm: NormName | bool = False, bias: bool = True
    ) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = Linear(width, 3 * width, bias=bias)
        self.norm = query_key_norm(width // num_heads, qk_norm)

    def forward(
        self, x: Float[Tensor, "batch tokens width"], rotary: Rotary | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys, values, each (batch, heads, tokens, dim).

        Args:
            rotary: rotations of queries and keys, after their norm.
        """
        # (B, N, 3D) -> 3 of (B, N, H, D/H): gradients are stacked as the product is laid out
        parts = self.qkv(x).unflatten(-1, (3, self.num_heads, -1)).unbind(2)
        q, k, v = (part.transpose(1, 2) for part in parts)
        if self.norm is not None:
            q, k = self.norm(q, k)
        if rotary is not None:
            q, k = rotary.rotate(q), rotary.rotate(k)
        return q, k, v


class SelfAttention(nn.Module):
    """Multi-head attention among the tokens of one stream.

    Args:
        qk_norm: norm of queries and keys; True = rms, False = none.
        qkv_bias: whether queries, keys and values have a bias.
    """

    def __init__(
        self,
        width: int,
        num_heads: int,
        *,
        qk_norm: NormName | bool = False,
        qkv_bias: bool = True,
    ) -> None:
        super().__init__()
        self.project_in = QueryKeyValue(width, num_heads, qk_norm=qk_norm, bias=qkv_bias)
        self.project_out = Linear(width, width)

    def forward(
        self,
        x: Float[Tensor, "batch tokens width"],
        bias: Float[Tensor, "_ heads tokens tokens"] | None = None,
        rotary: Rotary | None = None,
        mask: Bool[Tensor, "batch tokens"] | None = None,
    ) -> Float[Tensor, "batch tokens width"]:
        """Attend, with a bias of the scores, rotations and a mask of the keys where they are
        given, and project."""
        q, k, v = self.project_in(x, rotary)
        return self.project_out(attend(q, k, v, mask, bias=bias))


@runtime_checkable
class HasModules(Protocol):
    """Interface that :func:`cached_keys_values` needs of a model."""

    def modules(self) -> Iterator[nn.Module]:
        """See :meth:`torch.nn.Module.modules`."""


class CrossAttention(nn.Module):
    """Attention of image tokens to condition tokens; zero-initialised output projection.

    Args:
        qk_norm: norm of queries and keys; True = rms, False = none.
        qkv_bias: whether queries, keys and values have a bias.
    """

    def __init__(
        self,
        width: int,
        token_width: int,
        num_heads: int,
        *,
        qk_norm: NormName | bool = False,
        qkv_bias: bool = True,
    ) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.query = Linear(width, width, bias=qkv_bias)
        self.key_value = Linear(token_width, 2 * width, bias=qkv_bias)
        self.norm = query_key_norm(width // num_heads, qk_norm)
        self.project_out = Linear(width, width, init=zeros)
        self.kept: list[tuple[Tensor, Tensor, Tensor]] | None = None
        """Cached tokens with their keys and values, inside :func:`cached_keys_values`."""

    def forward(
        self,
        x: Float[Tensor, "batch tokens width"],
        tokens: Float[Tensor, "batch condition_tokens token_width"],
        mask: Bool[Tensor, "batch condition_tokens"] | None,
    ) -> Float[Tensor, "batch tokens width"]:
        """Attend from ``x`` to ``tokens``."""
        q = self.query(x).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
        if self.norm is not None:
            q = self.norm.query(q)
        k, v = self._keys_values(tokens)
        return self.project_out(attend(q, k, v, mask))

    def _keys_values(self, tokens: Tensor) -> tuple[Keys, Keys]:
        # A compiled block would be recompiled for each length of the list.
        cache = None if torch.compiler.is_compiling() else self.kept
        for cached, k, v in cache or ():
            if cached is tokens:
                return k, v
        k, v = self.key_value(tokens).unflatten(-1, (2, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        if self.norm is not None:
            k = self.norm.key(k)
        if cache is not None:
            cache.append((tokens, k, v))
        return k, v


@contextmanager
def cached_keys_values(model: HasModules) -> Iterator[None]:
    """Cache keys and values of cross-attention: the same tokens are projected only once.

    For sampling, where the tokens of a prompt stay the same at all times. "The same" means the
    same tensor object, which must not be modified. Not for training: cached tensors hold their
    graph. Compiled blocks do not use the cache.
    """
    layers = [module for module in model.modules() if isinstance(module, CrossAttention)]
    for layer in layers:
        layer.kept = []
    try:
        yield
    finally:
        for layer in layers:
            layer.kept = None
