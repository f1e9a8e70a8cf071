# SPDX-License-Identifier: Apache-2.0
"""Embedding of control: scaled fields, Fourier features, one MLP per field, gate gamma(t)."""

import math
from collections.abc import Callable
from typing import ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from pippin.conditioning.config import ConstantGate, ControlConfig, Gate, LinearGate, LogSnrGate
from pippin.control import CONTROL_FIELDS, recorded_fields
from pippin.nn.initialise import Init, Linear, xavier, zeros
from pippin.system.device import to_device
from pippin.types import NUM_TIMES, ControlBatch, Keep, Times

LogSnr = Callable[[Times], Times]
"""Log-SNR of a schedule at times."""


def gate_value(gate: Gate, t: Times, log_snr: LogSnr | None = None) -> Times:
    """Gate gamma(t) in [0, 1]: constant 1, or rising from 0 at pure noise (t = T) to 1 at t = 0.

    Berrada et al. 2024: e(c, t) = E_h(c_h) + gamma(t) E_l(c_l), with power-cosine gamma(t) =
    ((1 + cos(pi t / T)) / 2) ** alpha. The gate in log-SNR is our addition.

    Args:
        gate: the time schedule.
        t: times in [0, T].
        log_snr: log-SNR of the model's noise schedule, which only a gate in log-SNR reads.

    Raises:
        ValueError: a gate in log-SNR without a noise schedule.
    """
    if isinstance(gate, LogSnrGate):
        if log_snr is None:
            raise ValueError(
                "a control gate of kind log-snr needs the model's noise schedule: give "
                "build_model(..., log_snr=schedule.log_snr)"
            )
        return ((log_snr(t.float()) - gate.centre) / gate.width).sigmoid()
    progress = t.float() / NUM_TIMES
    if isinstance(gate, ConstantGate):
        return progress.new_ones(progress.shape)
    if isinstance(gate, LinearGate):
        return 1 - progress
    return ((1 + (math.pi * progress).cos()) / 2) ** gate.alpha


def unit_values(name: str, control: ControlBatch) -> Float[Tensor, "batch parts"]:
    """Values of a field mapped to [0, 1] by its declared range.

    Compiled code does not check values: reading them would break its graph.

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
    inside = (value >= field.low) & (value <= field.high)  # false for NaN
    if not torch.compiler.is_compiling() and not bool(inside.all()):
        raise ValueError(
            f"control {name!r} must lie in [{field.low}, {field.high}] ({field.unit}); "
            f"got {_range_text(value)}"
        )
    if field.scale == "log":
        low, high = torch.tensor(field.low).log(), torch.tensor(field.high).log()
        return (value.log() - low) / (high - low)
    return (value - field.low) / (field.high - field.low)


def _range_text(values: Tensor) -> str:
    """Range of the values, or the number of NaN."""
    if bool(values.isnan().any()):
        return f"NaN in {int(values.isnan().sum())} of {values.numel()} values"
    return f"values from {values.min().item()} to {values.max().item()}"


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
