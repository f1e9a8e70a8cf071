# SPDX-License-Identifier: Apache-2.0
"""Embedding of control fields: Fourier features and one small MLP per field."""

import math
from typing import ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from pippin.conditioning.config import ControlConfig
from pippin.conditioning.fields import unit_values
from pippin.control import CONTROL_FIELDS
from pippin.nn.initialise import Init, Linear, xavier, zeros
from pippin.system.device import to_device
from pippin.types import ControlBatch, Keep

LOWEST, HIGHEST = math.pi, 64 * math.pi
"""Angular frequencies per unit: half a period over a field's range, and 32 periods."""


def control_features(
    values: Float[Tensor, "batch parts"], num_frequencies: int
) -> Float[Tensor, "batch features"]:
    """Fourier features [cos(f_k v), sin(f_k v)] of each number v in [0, 1], f_k geometric from pi
    to 64 pi."""
    steps = torch.linspace(0, 1, num_frequencies, device=values.device)
    angles = values[..., None] * LOWEST * (HIGHEST / LOWEST) ** steps
    return torch.cat([angles.cos(), angles.sin()], dim=-1).flatten(1)


class FieldEmbedding(nn.Module):
    """Embedding of one control field: features, Linear, SiLU, Linear; a learned null vector."""

    inits: ClassVar[dict[str, Init]] = {"null": zeros}

    def __init__(self, name: str, config: ControlConfig, width: int) -> None:
        super().__init__()
        self.name, self.num_frequencies = name, config.num_frequencies
        parts = CONTROL_FIELDS[name].parts
        self.linear_in = Linear(2 * config.num_frequencies * parts, width)
        self.linear_out = Linear(
            width, width, init=zeros if config.output_init == "zero" else xavier
        )
        self.null = nn.Parameter(torch.zeros(width))

    def forward(
        self, control: ControlBatch, keep: Bool[Tensor, " batch"]
    ) -> Float[Tensor, "batch width"]:
        """Embed the raw control values of a batch."""
        values = to_device(unit_values(self.name, control), self.null.device)
        features = control_features(values, self.num_frequencies)
        vector = self.linear_out(F.silu(self.linear_in(features)))
        return torch.where(keep[:, None], vector, self.null)


class ControlGroup(nn.Module):
    """Embedding of one group, the sum over its fields: E_h(c_h) or E_l(c_l)."""

    def __init__(self, names: tuple[str, ...], config: ControlConfig, width: int) -> None:
        super().__init__()
        self.fields = nn.ModuleDict({name: FieldEmbedding(name, config, width) for name in names})

    def forward(self, control: ControlBatch, keep: Keep) -> Float[Tensor, "batch width"]:
        """Embed the raw control values of a batch."""
        vectors = [
            embed(control, keep.control & keep.fields.get(name, keep.control))
            for name, embed in self.fields.items()
        ]
        return torch.stack(vectors).sum(dim=0)
