# SPDX-License-Identifier: Apache-2.0
"""The control fields: one declaration each. Adding a control is adding a row here and a field
to :class:`pippin.types.Control`."""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from pippin.conditioning.config import ControlName
from pippin.types import ControlBatch


@dataclass(frozen=True, kw_only=True)
class ControlField:
    """How the raw numbers of one field become numbers in [0, 1] that a network reads."""

    parts: int
    unit: str
    low: float
    high: float
    scale: Literal["linear", "log"] = "linear"
    relative_to: ControlName | None = None
    """Divide by another field first, part by part."""


CONTROL_FIELDS: dict[ControlName, ControlField] = {
    "original_size": ControlField(parts=2, unit="pixels", low=8, high=8192, scale="log"),
    "crop_corner": ControlField(
        parts=2, unit="share of the original side", low=0, high=1, relative_to="original_size"
    ),
    "crop_size": ControlField(
        parts=2, unit="share of the original side", low=0, high=1, relative_to="original_size"
    ),
    "flip": ControlField(parts=1, unit="no or yes", low=0, high=1),
}


def unit_values(name: ControlName, control: ControlBatch) -> Float[Tensor, "batch parts"]:
    """A field's values mapped to [0, 1] by its declared range.

    Raises:
        ValueError: the field is absent, or a value lies outside its declared range.
    """
    field = CONTROL_FIELDS[name]
    missing = [n for n in (name, field.relative_to) if n is not None and n not in control]
    if missing:
        raise ValueError(f"control {missing[0]!r} is needed; the batch has {sorted(control)}")
    value = control[name].float()
    if field.relative_to is not None:
        value = value / control[field.relative_to]
    if bool(((value < field.low) | (value > field.high)).any()):
        worst = value.flatten().tolist()
        raise ValueError(
            f"control {name!r} must lie in [{field.low}, {field.high}] ({field.unit}); "
            f"got values from {min(worst)} to {max(worst)}"
        )
    if field.scale == "log":
        low, high = torch.tensor(field.low).log(), torch.tensor(field.high).log()
        return (value.log() - low) / (high - low)
    return (value - field.low) / (field.high - field.low)
