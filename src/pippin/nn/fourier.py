# SPDX-License-Identifier: Apache-2.0
"""Cosine and sine features of scalars, and the time embedding."""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from pippin.nn.initialise import Linear, normal
from pippin.types import Times


def time_features(t: Times, width: int) -> Float[Tensor, "batch width"]:
    """[cos(t f_k), sin(t f_k)] with f_k = 10000^(-k / (width / 2)).

    Computed in float32 in exactly this order: the published networks were trained on these values,
    and other orders differ by several 1e-5 near t = 1000.
    """
    half = width // 2
    k = torch.arange(half, dtype=torch.float32, device=t.device)
    angles = t.float()[:, None] * torch.exp(-math.log(10000.0) * k / half)
    return torch.cat([angles.cos(), angles.sin()], dim=-1)


class TimeEmbedding(nn.Module):
    """MLP on time features: Linear, SiLU, Linear."""

    def __init__(self, num_features: int, width: int) -> None:
        super().__init__()
        self.num_features = num_features
        self.linear_in = Linear(num_features, width, init=normal(0.02))
        self.linear_out = Linear(width, width, init=normal(0.02))

    def forward(self, t: Times) -> Float[Tensor, "batch width"]:
        """Embed times in [0, 1000]."""
        return self.linear_out(F.silu(self.linear_in(time_features(t, self.num_features))))
