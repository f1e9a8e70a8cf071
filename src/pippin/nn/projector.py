# SPDX-License-Identifier: Apache-2.0
"""Projection of tokens to the features of another network, by an MLP or by a convolution."""

from typing import Literal

from jaxtyping import Float
from torch import Tensor, nn

from pippin.nn.initialise import Conv2d, Linear


class TokenProjector(nn.Module):
    """Projector of a block's tokens to another network's features.

    Args:
        kind: mlp, three linear layers with SiLU between them (REPA, Yu et al. 2024); conv, one
            3 x 3 convolution over the grid of tokens (iREPA, Singh et al. 2025).
        width: width of the tokens.
        hidden_width: width inside the MLP.
        features: number of features.
    """

    def __init__(
        self, kind: Literal["mlp", "conv"], width: int, hidden_width: int, features: int
    ) -> None:
        super().__init__()
        has_mlp = kind == "mlp"
        self.conv = None if has_mlp else Conv2d(width, features, 3)
        self.mlp = None
        if has_mlp:
            self.mlp = nn.Sequential(
                Linear(width, hidden_width),
                nn.SiLU(),
                Linear(hidden_width, hidden_width),
                nn.SiLU(),
                Linear(hidden_width, features),
            )

    def forward(
        self, tokens: Float[Tensor, "batch tokens width"], grid: tuple[int, int]
    ) -> Float[Tensor, "batch tokens features"]:
        """Project tokens.

        Args:
            tokens: in raster order.
            grid: (rows, columns) of the tokens.
        """
        if self.mlp is not None:
            return self.mlp(tokens)
        assert self.conv is not None
        return self.conv(tokens.transpose(1, 2).unflatten(2, grid)).flatten(2).transpose(1, 2)
