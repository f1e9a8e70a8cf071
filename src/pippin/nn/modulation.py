# SPDX-License-Identifier: Apache-2.0
"""Adaptive layer norm: shift, scale and gate from the modulation vector."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from pippin.nn.initialise import Init, Linear, normal, zeros


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
