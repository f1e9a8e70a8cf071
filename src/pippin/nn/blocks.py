# SPDX-License-Identifier: Apache-2.0
"""Transformer block with adaLN-zero (Peebles & Xie 2023), and its parts: modulation and MLPs."""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from pippin.nn.attention import CrossAttention, SelfAttention
from pippin.nn.config import BlockLayers, NormName
from pippin.nn.initialise import Init, Linear, normal, xavier, zeros
from pippin.nn.norms import token_norm
from pippin.nn.rotary import Rotary


def gelu_tanh(x: Tensor) -> Tensor:
    """GELU in the tanh approximation: x (1 + tanh u) / 2, u = sqrt(2 / pi) (x + 0.044715 x^3).

    Compiled for a CPU it is x sigmoid(2 u), the same function up to rounding: exp takes a third of
    the time of tanh there.
    """
    if x.device.type == "cpu" and torch.compiler.is_compiling():
        return x * torch.sigmoid(2 * math.sqrt(2 / math.pi) * (x + 0.044715 * x * x * x))
    return F.gelu(x, approximate="tanh")


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
        return self.linear_out(gelu_tanh(self.linear_in(x)))


class SwiGLU(nn.Module):
    """SiLU(W1 x) * W2 x, then W3 (Shazeer 2020, arXiv 2002.05202), with the parameters of an
    :class:`MLP` of the same ratio.

    Args:
        width: width of input and output.
        ratio: as of :class:`MLP`; the hidden width is 2/3 of that there, rounded down.
        bias: whether the linear layers have a bias.
    """

    def __init__(self, width: int, ratio: float = 4.0, *, bias: bool = True) -> None:
        super().__init__()
        hidden = 2 * int(width * ratio) // 3
        self.linear_in = Linear(width, 2 * hidden, bias=bias)  # rows of W1, then of W2
        self.linear_out = Linear(hidden, width, bias=bias)

    def forward(self, x: Float[Tensor, "batch tokens width"]) -> Float[Tensor, "batch tokens _"]:
        """Apply to each token."""
        gate, value = self.linear_in(x).chunk(2, dim=-1)
        return self.linear_out(F.silu(gate) * value)


def build_mlp(layers: BlockLayers, width: int, ratio: float) -> MLP | SwiGLU:
    """MLP of a block."""
    if layers.mlp == "swiglu":
        return SwiGLU(width, ratio, bias=layers.mlp_bias)
    return MLP(width, ratio)


Vectors = Float[Tensor, "batch *per_token width"]
"""Modulation vectors: one per image, or one per token."""


def per_token(vectors: Vectors) -> Float[Tensor, "batch _ width"]:
    """Vectors that broadcast over the tokens of an image."""
    return vectors[:, None] if vectors.ndim == 2 else vectors


def modulate(
    x: Float[Tensor, "batch tokens width"], shift: Vectors | None, scale: Vectors
) -> Float[Tensor, "batch tokens width"]:
    """x (1 + scale) + shift, the same for all tokens of an image unless given per token.

    Computed in the dtype of the vectors, that of matrix products: under bf16 autocast the residual
    stream stays in fp32, and a layer's input is rounded here.

    Args:
        shift: None = 0.
    """
    scaled = x.to(scale.dtype) * (1 + per_token(scale))
    return scaled if shift is None else scaled + per_token(shift)


class Modulation(nn.Module):
    """Linear(SiLU(modulation)) split into ``num_vectors``; zero-initialised (adaLN-zero).

    Args:
        silu: False for a modulation that has passed SiLU before.
    """

    def __init__(
        self, modulation_width: int, width: int, num_vectors: int, *, silu: bool = True
    ) -> None:
        super().__init__()
        self.num_vectors, self.silu = num_vectors, silu
        self.linear = Linear(modulation_width, num_vectors * width, init=zeros)

    def forward(
        self, modulation: Float[Tensor, "batch *per_token modulation_width"]
    ) -> tuple[Vectors, ...]:
        """The vectors, in the order of the weight's rows: per image or per token, as given."""
        activated = F.silu(modulation) if self.silu else modulation
        return self.linear(activated).chunk(self.num_vectors, dim=-1)


class ModulatedOutput(nn.Module):
    """Last layer of a transformer: modulated norm, then a zero-initialised projection.

    Args:
        norm: norm before modulation.
        silu: as of :class:`Modulation`.
    """

    def __init__(
        self,
        width: int,
        modulation_width: int,
        out_features: int,
        *,
        norm: NormName = "layer",
        silu: bool = True,
    ) -> None:
        super().__init__()
        self.modulation = Modulation(modulation_width, width, 2, silu=silu)
        self.norm = token_norm(norm, width)
        self.linear = Linear(width, out_features, init=zeros)

    def forward(
        self,
        x: Float[Tensor, "batch tokens width"],
        modulation: Float[Tensor, "batch *per_token modulation_width"],
    ) -> Float[Tensor, "batch tokens features"]:
        """Project tokens to the values of their patches."""
        shift, scale = self.modulation(modulation)
        return self.linear(modulate(self.norm(x), shift, scale))


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
Branch = tuple[Vectors | None, Vectors, Vectors]
"""Shift (None = 0), scale and gate of one branch of a block."""
DIT_LAYERS = BlockLayers()


class AdaLNBlock(nn.Module):
    """Gated self-attention, optional cross-attention, gated MLP.

    Args:
        cross_attention: add cross-attention to condition tokens after self-attention.
        layers: choice of norms, MLP and modulation.
        condition_width: width of the modulation and of condition tokens; None = ``width``.
    """

    def __init__(
        self,
        width: int,
        num_heads: int,
        mlp_ratio: float,
        *,
        cross_attention: bool = False,
        layers: BlockLayers = DIT_LAYERS,
        condition_width: int | None = None,
    ) -> None:
        super().__init__()
        num_vectors, condition_width = 6 if layers.shift else 4, condition_width or width
        qk_norm, self.shift = layers.qk_norm, layers.shift
        self.modulation = Modulation(
            condition_width, width, num_vectors, silu=layers.modulation_silu
        )
        self.norm_attention = token_norm(layers.norm, width)
        self.attention = SelfAttention(width, num_heads, qk_norm=qk_norm, qkv_bias=layers.qkv_bias)
        self.norm_cross = token_norm(layers.norm, width) if cross_attention else None
        self.cross = (
            CrossAttention(width, condition_width, num_heads, qk_norm=qk_norm)
            if cross_attention
            else None
        )
        self.norm_mlp = token_norm(layers.norm, width)
        self.mlp = build_mlp(layers, width, mlp_ratio)

    def forward(
        self,
        x: Tokens,
        modulation: Float[Tensor, "batch *per_token modulation_width"],
        tokens: Float[Tensor, "batch condition_tokens token_width"] | None,
        mask: Bool[Tensor, "batch condition_tokens"] | None,
        bias: Float[Tensor, "_ heads tokens tokens"] | None = None,
        rotary: Rotary | None = None,
        key_mask: Bool[Tensor, "batch tokens"] | None = None,
    ) -> Tokens:
        """One block; (B, N, D) -> (B, N, D).

        Args:
            modulation: one vector per image or per token.
            bias: added to the scores of self-attention.
            rotary: rotations of the queries and keys of self-attention.
            key_mask: True where self-attention may read a token.
        """
        (shift1, scale1, gate1), (shift2, scale2, gate2) = self._vectors(modulation)
        attended = modulate(self.norm_attention(x), shift1, scale1)
        x = x + per_token(gate1) * self.attention(attended, bias, rotary, key_mask)
        if self.cross is not None and self.norm_cross is not None:
            assert tokens is not None
            x = x + self.cross(self.norm_cross(x), tokens, mask)
        return x + per_token(gate2) * self.mlp(modulate(self.norm_mlp(x), shift2, scale2))

    def _vectors(
        self, modulation: Float[Tensor, "batch *per_token modulation_width"]
    ) -> tuple[Branch, Branch]:
        """Shift, scale and gate of attention and of the MLP."""
        vectors = self.modulation(modulation)
        if self.shift:
            shift1, scale1, gate1, shift2, scale2, gate2 = vectors
            return (shift1, scale1, gate1), (shift2, scale2, gate2)
        scale1, gate1, scale2, gate2 = vectors
        return (None, scale1, gate1), (None, scale2, gate2)
