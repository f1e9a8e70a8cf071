# SPDX-License-Identifier: Apache-2.0
"""Transformer block with adaLN-zero (Peebles & Xie 2023), and its parts: modulation and the two-
layer MLP.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from pippin.nn.attention import CrossAttention, SelfAttention
from pippin.nn.initialise import Init, Linear, normal, xavier, zeros


class MLP(nn.Module):
    """Linear, GELU (tanh approximation), Linear.

    Args:
        width: width of the input, and of the output unless ``out_features`` is given.
        ratio: hidden width over ``width``.
        out_features: width of the output and then also of the hidden layer.
        init: initialisation of both weights.
    """

    def __init__(
        self,
        width: int,
        ratio: float = 4.0,
        out_features: int | None = None,
        init: Init = xavier,
    ) -> None:
        super().__init__()
        hidden = out_features or int(width * ratio)
        self.linear_in = Linear(width, hidden, init=init)
        self.linear_out = Linear(hidden, out_features or width, init=init)

    def forward(self, x: Float[Tensor, "batch tokens width"]) -> Float[Tensor, "batch tokens _"]:
        """Apply to each token."""
        return self.linear_out(F.gelu(self.linear_in(x), approximate="tanh"))


def layer_norm(x: Float[Tensor, "batch tokens width"]) -> Float[Tensor, "batch tokens width"]:
    """Layer norm without gain or bias, eps 1e-6 (DiT and its descendants)."""
    return F.layer_norm(x, x.shape[-1:], eps=1e-6)


def modulate(
    x: Float[Tensor, "batch tokens width"],
    shift: Float[Tensor, "batch width"],
    scale: Float[Tensor, "batch width"],
) -> Float[Tensor, "batch tokens width"]:
    """x (1 + scale) + shift, the same for all tokens of an image.

    Computed in the dtype of the vectors, that of matrix products: under bf16 autocast the residual
    stream stays in fp32, and a layer's input is rounded here.
    """
    return x.to(scale.dtype) * (1 + scale[:, None]) + shift[:, None]


class Modulation(nn.Module):
    """Linear(SiLU(modulation)) split into ``num_vectors``; zero-initialised (adaLN-zero)."""

    def __init__(self, modulation_width: int, width: int, num_vectors: int) -> None:
        super().__init__()
        self.num_vectors = num_vectors
        self.linear = Linear(modulation_width, num_vectors * width, init=zeros)

    def forward(
        self, modulation: Float[Tensor, "batch modulation_width"]
    ) -> tuple[Float[Tensor, "batch width"], ...]:
        """The vectors, in the order of the weight's rows."""
        return self.linear(F.silu(modulation)).chunk(self.num_vectors, dim=-1)


class ModulatedOutput(nn.Module):
    """Last layer of a transformer: modulated layer norm, then a zero-initialised projection."""

    def __init__(self, width: int, modulation_width: int, out_features: int) -> None:
        super().__init__()
        self.modulation = Modulation(modulation_width, width, 2)
        self.linear = Linear(width, out_features, init=zeros)

    def forward(
        self,
        x: Float[Tensor, "batch tokens width"],
        modulation: Float[Tensor, "batch modulation_width"],
    ) -> Float[Tensor, "batch tokens features"]:
        """Project tokens to the values of their patches."""
        shift, scale = self.modulation(modulation)
        return self.linear(modulate(layer_norm(x), shift, scale))


class ModulationTable(nn.Module):
    """Learned vectors of a block, added to vectors shared by all blocks (adaLN-single, PixArt)."""

    def __init__(self, width: int, num_vectors: int) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.zeros(num_vectors, width))
        self.inits: dict[str, Init] = {"table": normal(width**-0.5)}

    def forward(
        self, shared: Float[Tensor, "batch _ width"]
    ) -> tuple[Float[Tensor, "batch width"], ...]:
        """Sums, one vector per row of the table.

        Args:
            shared: one vector per row, or one for all.
        """
        return (self.table.to(shared.dtype) + shared).unbind(1)


Tokens = Float[Tensor, "batch tokens width"]


class AdaLNBlock(nn.Module):
    """Gated self-attention, optional cross-attention, gated MLP.

    Args:
        cross_attention: add cross-attention to condition tokens after self-attention.
    """

    def __init__(
        self, width: int, num_heads: int, mlp_ratio: float, *, qk_norm: bool, cross_attention: bool
    ) -> None:
        super().__init__()
        self.modulation = Modulation(width, width, 6)
        self.attention = SelfAttention(width, num_heads, qk_norm=qk_norm)
        self.cross = (
            CrossAttention(width, width, num_heads, qk_norm=qk_norm) if cross_attention else None
        )
        self.mlp = MLP(width, mlp_ratio)

    def forward(
        self,
        x: Tokens,
        modulation: Float[Tensor, "batch width"],
        tokens: Float[Tensor, "batch condition_tokens width"] | None,
        mask: Bool[Tensor, "batch condition_tokens"] | None,
        bias: Float[Tensor, "_ heads tokens tokens"] | None = None,
    ) -> Tokens:
        """One block; (B, N, D) -> (B, N, D).

        Args:
            bias: added to the scores of self-attention.
        """
        shift1, scale1, gate1, shift2, scale2, gate2 = self.modulation(modulation)  # each (B, D)
        x = x + gate1[:, None] * self.attention(modulate(layer_norm(x), shift1, scale1), bias)
        if self.cross is not None:
            assert tokens is not None
            x = x + self.cross(layer_norm(x), tokens, mask)
        return x + gate2[:, None] * self.mlp(modulate(layer_norm(x), shift2, scale2))
