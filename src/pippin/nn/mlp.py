# SPDX-License-Identifier: Apache-2.0
"""Two-layer MLP of transformer blocks."""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from pippin.nn.initialise import Init, Linear, xavier


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
