# SPDX-License-Identifier: Apache-2.0
"""Scaling of control fields to numbers in [0, 1], by their declarations."""

import torch
from jaxtyping import Float
from torch import Tensor

from pippin.control import CONTROL_FIELDS, recorded_fields
from pippin.types import ControlBatch


def unit_values(name: str, control: ControlBatch) -> Float[Tensor, "batch parts"]:
    """Values of a field mapped to [0, 1] by its declared range.

    Raises:
        ValueError: the field is missing, or a value lies outside its declared range.
    """
    field = CONTROL_FIELDS[name]
    missing = [source for source in recorded_fields((name,)) if source not in control]
    if missing:
        raise ValueError(f"control {missing[0]!r} is needed; the batch has {sorted(control)}")
    if field.ratio_of is not None:
        first, second = control[field.ratio_of].float().split(1, dim=1)
        value = (first / second).clamp(field.low, field.high)
    else:
        value = control[name].float()
    if field.relative_to is not None:
        value = value / control[field.relative_to]
    if bool(((value < field.low) | (value > field.high)).any()):
        numbers = value.flatten().tolist()
        raise ValueError(
            f"control {name!r} must lie in [{field.low}, {field.high}] ({field.unit}); "
            f"got values from {min(numbers)} to {max(numbers)}"
        )
    if field.scale == "log":
        low, high = torch.tensor(field.low).log(), torch.tensor(field.high).log()
        return (value.log() - low) / (high - low)
    return (value - field.low) / (field.high - field.low)
