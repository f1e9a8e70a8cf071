# SPDX-License-Identifier: Apache-2.0
"""The two-layer perceptron of transformer blocks."""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from pippin.nn.initialise import Linear


class MLP(nn.Module):
    """Linear, GELU (tanh approximation), Linear."""

    def __init__(self, width: int, ratio: float = 4.0) -> None:
        super().__init__()
        hidden = int(width * ratio)
        self.linear_in = Linear(width, hidden)
        self.linear_out = Linear(hidden, width)

    def forward(
        self, x: Float[Tensor, "batch tokens width"]
    ) -> Float[Tensor, "batch tokens width"]:
        """Token by token."""
        return self.linear_out(F.gelu(self.linear_in(x), approximate="tanh"))
