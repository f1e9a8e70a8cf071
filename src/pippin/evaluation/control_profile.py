# SPDX-License-Identifier: Apache-2.0
"""Control profile: at which noise levels does knowing a control matter?

A held-out image is denoised twice from the same noise, told its own value of one control and told
a wrong one. The x0-error that the wrong value adds, against log-SNR, is the field's profile. A
field whose profile lies at low log-SNR is decided early, while the layout forms; one whose profile
lies at high log-SNR is a late, low-level control, of which the time schedule of Berrada et al.
2024 speaks. The profile of an ungated model tells which group and which gate a field needs.

Where x_t itself shows the value (a blur, an artefact), a wrong one adds nothing; a field that a
model ignores has a profile of zero.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Float64, Int64
from torch import Tensor

from pippin.control import CONTROL_FIELDS
from pippin.evaluation.denoising import Level
from pippin.evaluation.measure import RESAMPLES, Measure, mean_measure, middle
from pippin.rng import generator
from pippin.types import ControlBatch

RULE = "value half the ranks away"
"""How the wrong value of a field is chosen, as protocols say it."""


@dataclass(frozen=True, kw_only=True)
class FieldErrors:
    """Errors of one field's wrong values beside those of the right ones."""

    field: str
    right: Float64[Tensor, "count levels"]
    """x0-error of every image at every level under its own value."""
    wrong: Float64[Tensor, "count levels"]
    """The same under the wrong value."""
    changed: Bool[Tensor, " count"]
    """Where the wrong value differs from the right one."""

    @property
    def added(self) -> Float64[Tensor, "count levels"]:
        """What the wrong value adds, of the images whose value changes."""
        return (self.wrong - self.right)[self.changed]


def wrong_values(control: Mapping[str, Tensor], field: str) -> ControlBatch:
    """The batch with the values of one field exchanged: each image gets the value of the image
    half of the ranks away, in the order of the field's numbers.

    Fields that are shares of another one (crops, of the original size) keep or exchange their
    shares, so that nothing else changes. ``aspect_ratio`` has no number of its own: the original
    sizes are exchanged.
    """
    declared = CONTROL_FIELDS[field]
    name, whole = declared.ratio_of or field, declared.relative_to
    values = control[name] if whole is None else control[name] / control[whole]
    exchanged = values[_half_the_ranks_away(values)]
    changed = {name: exchanged if whole is None else exchanged * control[whole]}
    for other, entry in CONTROL_FIELDS.items():
        if entry.relative_to == name and other in control:
            changed[other] = control[other] / control[name] * changed[name]
    return {**control, **changed}


def _half_the_ranks_away(values: Float[Tensor, "count parts"]) -> Int64[Tensor, " count"]:
    """For each row the row half of the ranks away; equal rows rank by their position."""
    rows = values.reshape(len(values), -1).tolist()
    ranked = torch.tensor(sorted(range(len(rows)), key=lambda row: (rows[row], row)))
    away = torch.empty_like(ranked)
    away[ranked] = ranked.roll(-(len(rows) // 2))
    return away


def changed_rows(
    right: Mapping[str, Tensor], wrong: Mapping[str, Tensor], field: str
) -> Bool[Tensor, " count"]:
    """Which images' numbers of the field differ."""
    name = CONTROL_FIELDS[field].ratio_of or field
    return (right[name] != wrong[name]).reshape(len(right[name]), -1).any(1)


def profile_measures(
    found: FieldErrors, levels: Sequence[Level], *, seed: int, protocol: dict[str, Any]
) -> list[Measure]:
    """``control profile FIELD at log-SNR L`` for each level, and where its middle lies.

    ``control profile FIELD centre`` is the mean log-SNR of the levels, each weighted by the error
    that the wrong value adds there (an amount below zero counts as none); left out where the
    field adds nothing anywhere. Intervals are over images.
    """
    added, shared = found.added, protocol | {"wrong": RULE}
    if not len(added):
        return []
    points = [
        mean_measure(
            f"control profile {found.field} at log-SNR {level.wanted:g}",
            added[:, column],
            seed=seed,
            unit="x0-error",
            better="neither",
            protocol=shared
            | {"log_snr": level.wanted, "log_snr_reached": round(level.reached, 3)},
        )
        for column, level in enumerate(levels)
    ]
    reached = torch.tensor([level.reached for level in levels], dtype=torch.float64)
    value = float(_centre(added.mean(0)[None], reached)[0])
    if math.isnan(value):  # nothing is added anywhere
        return points
    name = f"control profile {found.field} centre"
    draws = generator("subset", seed, "bootstrap", name)
    rows = torch.randint(len(added), (RESAMPLES, len(added)), generator=draws)
    resampled = _centre(torch.stack([added[row].mean(0) for row in rows]), reached)
    low, high = middle(resampled[~resampled.isnan()])
    centre = Measure(
        name=name,
        value=value,
        low=low,
        high=high,
        interval_over="samples",
        n=len(added),
        unit="log-SNR",
        better="neither",
        protocol=shared | {"seed": seed, "log_snrs": [level.wanted for level in levels]},
    )
    return [centre, *points]


def _centre(
    added: Float64[Tensor, "curves levels"], log_snrs: Float64[Tensor, " levels"]
) -> Float64[Tensor, " curves"]:
    """The weighted mean log-SNR of each curve; nan where a curve lies at or below zero."""
    weights = added.clamp(min=0)
    return (weights * log_snrs).sum(1) / weights.sum(1)
