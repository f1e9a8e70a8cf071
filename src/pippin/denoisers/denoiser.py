# SPDX-License-Identifier: Apache-2.0
"""What every denoiser is: a map from a noisy latent and embedded conditions to a prediction."""

from abc import ABC, abstractmethod
from typing import Literal, NamedTuple

from torch import nn

from pippin.types import Embedded, Latents, Masking, Prediction


class Widths(NamedTuple):
    """What a denoiser asks of its conditioner."""

    token: int
    """Features of a condition token."""
    modulation: int
    """Features of the modulation vector."""
    time_features: int
    """Features of time before its MLP."""


TokenUse = Literal["none", "cross", "joint"]
"""How a denoiser reads condition tokens: not at all, by cross-attention, or in one stream of
attention with the image, which needs tokens in any case."""


class Denoiser(nn.Module, ABC):
    """Architecture only: knows no label, caption, crop, guidance, loss or data."""

    widths: Widths
    token_use: TokenUse
    blocks: nn.ModuleList
    """The repeated part: what is compiled, checkpointed or sharded block by block."""

    @abstractmethod
    def forward(
        self, x_t: Latents, embedded: Embedded, masking: Masking | None = None
    ) -> Prediction:
        """Predict, in the unit of the recipe's prediction type.

        Args:
            masking: for a denoiser that has a masked pass, which then gives ``aux``; the others
                leave it alone.
        """

    def num_maskable(self, shape: tuple[int, ...]) -> int:
        """How many tokens of latents (..., height, width) a masked pass shuffles; 0 = none."""
        return 0
