# SPDX-License-Identifier: Apache-2.0
"""Interface of the frozen encoders of representation autoencoders."""

from abc import ABC, abstractmethod
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from pippin.types import Pixels

EFFLITE0, TRANSFORMERS = "efflite0", "transformers"
"""Kinds of encoders, in settings and in config.json."""
EPS = 1e-6
"""Added to variances of the final normalisation, as by the vision transformers."""


class FrozenEncoder(nn.Module, ABC):
    """Feature network without gradients, always in evaluation mode.

    Subclasses build their layers, and :meth:`frozen` freezes them.
    """

    stride: int
    """Pixels of the network's input for each position of the features, along a side."""
    channels: int
    """Number of features of a position."""

    @property
    @abstractmethod
    def settings(self) -> dict[str, Any]:
        """JSON values that :func:`pippin.encoders.representation.network.empty_encoder` builds the
        network from, without its weights."""

    @abstractmethod
    def forward(self, pixels: Pixels) -> Float[Tensor, "batch channels rows columns"]:
        """Features of pixels in [-1, 1] whose sides are multiples of the stride. Each position has
        mean 0 and variance 1 over its channels."""

    def frozen(self) -> "FrozenEncoder":
        """The encoder itself in fp32, in evaluation mode and without gradients."""
        self.float().eval().requires_grad_(False)
        return self

    def train(self, mode: bool = True) -> "FrozenEncoder":
        """Stay in evaluation mode: batch statistics and dropout would change the latents."""
        super().train(False)
        return self
