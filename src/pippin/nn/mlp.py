# SPDX-License-Identifier: Apache-2.0
"""The two-layer perceptron of transformer blocks."""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from pippin.nn.initialise import Init, Linear, xavier


class MLP(nn.Module):
    """Linear, GELU (tanh approximation), Linear.

    Args:
        width: of the input, and of the output where nothing else is said.
        ratio: hidden features for each of ``width``.
        out_features: another width of the output; the hidden layer then has it too.
        init: of both weights.
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
        """Token by token."""
        return self.linear_out(F.gelu(self.linear_in(x), approximate="tanh"))
