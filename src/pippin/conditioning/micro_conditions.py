# SPDX-License-Identifier: Apache-2.0
"""SDXL's micro-conditioning: raw numbers, one sinusoid and one MLP for all fields."""

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
"""Number of features per number (``addition_time_embed_dim`` of diffusers' SDXL)."""


class MicroConditions(nn.Module):
    """Micro-conditioning of SDXL (Podell et al. 2023, arXiv 2307.01952, section 2.2).

    Each number of each field, unscaled in its own unit (pixels for sizes and corners), is mapped
    to 256 time-step features. All features are concatenated, in the order of
    :data:`pippin.control.CONTROL_FIELDS`, and go through Linear, SiLU, Linear. Both weights have
    torch's initialisation (uniform within 1 / sqrt(inputs)) and biases are 0, so that control has
    an effect from the first step. The vector is added to the time embedding, constant in time.

    The features of a dropped field are zeros, as in SDXL's released code. If all fields are
    dropped, the vector depends on the biases only: it is learned and independent of control.

    Args:
        names: the fields, in any order.
        width: width of the vector.
    """

    def __init__(self, names: tuple[str, ...], width: int) -> None:
        super().__init__()
        self.names = tuple(name for name in CONTROL_FIELDS if name in names)
        numbers = sum(CONTROL_FIELDS[name].parts for name in self.names)
        self.linear_in = Linear(NUM_FEATURES * numbers, width, init=fan_in_uniform)
        self.linear_out = Linear(width, width, init=fan_in_uniform)

    def forward(self, control: ControlBatch, keep: Keep) -> Float[Tensor, "batch width"]:
        """Embed the raw control values of a batch.

        Raises:
            ValueError: a field is missing, or a value lies outside its range.
        """
        features = []
        for name in self.names:
            unit_values(name, control)  # raises if missing or out of range
            kept = keep.control & keep.fields.get(name, keep.control)
            features.append(raw_features(control[name], kept))
        return self.linear_out(F.silu(self.linear_in(torch.cat(features, dim=-1))))


def raw_features(
    values: Float[Tensor, "batch parts"], kept: Tensor
) -> Float[Tensor, "batch features"]:
    """Time features of each number, on the device of ``kept``; zeros for dropped rows."""
    numbers = to_device(values.float(), kept.device)
    features = time_features(numbers.flatten(), NUM_FEATURES)  # (B * parts, 256)
    return features.reshape(len(values), -1) * kept[:, None]
