# SPDX-License-Identifier: Apache-2.0
"""Control as SDXL embeds it: raw numbers, one sinusoid and one perceptron for all fields."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from pippin.conditioning.fields import unit_values
from pippin.control import CONTROL_FIELDS
from pippin.nn.fourier import time_features
from pippin.nn.initialise import Linear, fan_in_uniform
from pippin.system.device import to_device
from pippin.types import ControlBatch, Keep

NUM_FEATURES = 256
"""Features of each number (``addition_time_embed_dim`` of diffusers' SDXL)."""


class MicroConditions(nn.Module):
    """The micro-conditioning of SDXL (Podell et al. 2023, arXiv 2307.01952, section 2.2).

    Each number of each field, in its own unit and not scaled (pixels for sizes and corners), goes
    through the features of a time step, 256 of them. All features stand side by side, in the order
    of :data:`pippin.control.CONTROL_FIELDS`, and go through Linear, SiLU, Linear. Both weights
    start as torch starts them (uniform within 1 / sqrt(inputs)) and biases at 0, so that control
    acts from the first step. The vector is added to the time embedding at every time alike.

    Where a field is dropped, its features are zeros, as SDXL's released code does where it drops a
    condition. Where all are, what the biases make of zeros is left: a vector that is learned and
    that no control value changes.

    Args:
        names: the fields, in any order.
        width: of the vector.
    """

    def __init__(self, names: tuple[str, ...], width: int) -> None:
        super().__init__()
        self.names = tuple(name for name in CONTROL_FIELDS if name in names)
        numbers = sum(CONTROL_FIELDS[name].parts for name in self.names)
        self.linear_in = Linear(NUM_FEATURES * numbers, width, init=fan_in_uniform)
        self.linear_out = Linear(width, width, init=fan_in_uniform)

    def forward(self, control: ControlBatch, keep: Keep) -> Float[Tensor, "batch width"]:
        """Raw control values of a batch to vectors.

        Raises:
            ValueError: a field is missing, or a value lies outside its range.
        """
        features = []
        for name in self.names:
            unit_values(name, control)  # which refuses what is missing or out of range
            kept = keep.control & keep.fields.get(name, keep.control)
            features.append(raw_features(control[name], kept))
        return self.linear_out(F.silu(self.linear_in(torch.cat(features, dim=-1))))


def raw_features(
    values: Float[Tensor, "batch parts"], kept: Tensor
) -> Float[Tensor, "batch features"]:
    """Time features of each number, on the device of ``kept``; zeros where not kept."""
    numbers = to_device(values.float(), kept.device)
    each = time_features(numbers.flatten(), NUM_FEATURES)  # (B * parts, 256)
    return each.reshape(len(values), -1) * kept[:, None]
