# SPDX-License-Identifier: Apache-2.0
"""Transformer block with adaLN-zero, shared by DiT and MDT (Peebles & Xie 2023)."""

from jaxtyping import Bool, Float
from torch import Tensor, nn

from pippin.nn.attention import CrossAttention, SelfAttention
from pippin.nn.mlp import MLP
from pippin.nn.modulation import Modulation, layer_norm, modulate

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
