# SPDX-License-Identifier: Apache-2.0
"""Semantics to tokens or to a modulation vector."""

from typing import ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from pippin.nn.initialise import Init, normal


class LabelTable(nn.Module):
    """A learned vector per class, and one for the null class, whose id is ``num_classes``."""

    inits: ClassVar[dict[str, Init]] = {"weight": normal(0.02)}

    def __init__(self, num_classes: int, width: int) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.weight = nn.Parameter(torch.zeros(num_classes + 1, width))

    def forward(
        self, label: Int[Tensor, " batch"], keep: Bool[Tensor, " batch"]
    ) -> Float[Tensor, "batch width"]:
        """Class ids to vectors.

        Raises:
            ValueError: an id outside [0, num_classes); ask for the null by ``keep`` = False.
        """
        if bool(((label < 0) | (label >= self.num_classes)).any()):
            raise ValueError(
                f"class ids must lie in [0, {self.num_classes}); got {sorted(set(label.tolist()))}"
            )
        return self.weight[torch.where(keep, label.to(keep.device), self.num_classes)]


class ConstantTokens(nn.Module):
    """Learned tokens that say nothing: what joint attention reads when no semantics go there."""

    inits: ClassVar[dict[str, Init]] = {"weight": normal(0.02)}

    def __init__(self, num_tokens: int, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(num_tokens, width))

    def forward(self, batch: int) -> Float[Tensor, "batch tokens width"]:
        """The same tokens for each image."""
        return self.weight.expand(batch, -1, -1)
