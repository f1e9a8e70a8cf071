# SPDX-License-Identifier: Apache-2.0
"""Control profile: the noise levels at which a control value matters.

A held-out image is denoised twice from the same noise, once with its own value of one control and
once with a wrong value. The profile of the field is the x0-error that the wrong value adds,
against log-SNR. A field with a profile at low log-SNR acts early, while the layout forms. A field
with a profile at high log-SNR is a late, low-level control, which the time schedule of Berrada et
al. 2024 is about. The profile of an ungated model tells which group and gate a field needs.

Where x_t itself shows the value (a blur, an artefact), a wrong value adds nothing; a field that a
model ignores has a profile of zero.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Float64, Int64
from torch import Tensor

from pippin.control import CONTROL_FIELDS, ControlField
from pippin.evaluation.measure import RESAMPLES, Measure, mean_measure, percentile_interval
from pippin.evaluation.metrics.declared.control_profile import PROFILE_CENTRE, PROFILE_POINT
from pippin.evaluation.metrics.denoising import NoiseLevel
from pippin.rng import generator
from pippin.types import ControlBatch

WRONG_VALUE_RULE = "value half the ranks away"
"""Rule that selects the wrong value of a field, as recorded in protocols."""
WRONG_RATIO_RULE = "ratio half the ranks away, own area"
"""The same for a field that is a ratio."""


@dataclass(frozen=True, kw_only=True)
class FieldErrors:
    """Errors under right and wrong values of one field."""

    field: str
    right: Float64[Tensor, "count levels"]
    """x0-error of every image at every level under its own value."""
    wrong: Float64[Tensor, "count levels"]
    """The same under the wrong value."""
    changed: Bool[Tensor, " count"]
    """True where the wrong value differs from the right one."""

    @property
    def added(self) -> Float64[Tensor, "count levels"]:
        """Error that the wrong value adds, for the images whose value changes."""
        return (self.wrong - self.right)[self.changed]


def wrong_values(control: Mapping[str, Tensor], field: str) -> ControlBatch:
    """Batch with the values of one field permuted: each image gets the value of the image half of
    the ranks away, ranked by the field's values.

    Fields relative to another field (crops, to the original size) keep or permute their shares, so
    that nothing else changes. ``aspect_ratio`` has no value of its own: the original sizes keep
    their area and get the ratio of another image, as far as their range allows.
    """
    declaration = CONTROL_FIELDS[field]
    name, divisor = declaration.ratio_of or field, declaration.relative_to
    if declaration.ratio_of is not None:
        changed = {name: _with_other_ratios(control[name], CONTROL_FIELDS[name])}
    else:
        values = control[name] if divisor is None else control[name] / control[divisor]
        exchanged = values[_half_the_ranks_away(values)]
        changed = {name: exchanged if divisor is None else exchanged * control[divisor]}
    for other, entry in CONTROL_FIELDS.items():
        if entry.relative_to == name and other in control:
            changed[other] = control[other] / control[name] * changed[name]
    return {**control, **changed}


def _with_other_ratios(
    sizes: Float[Tensor, "count 2"], declaration: ControlField
) -> Float[Tensor, "count 2"]:
    """Sizes of the same area with the ratio half of the ranks away; those whose ratio stays are
    unchanged, bit for bit."""
    ratios, areas = _ratios(sizes), sizes.double().prod(1)
    others = ratios[_half_the_ranks_away(ratios)]
    sides = torch.stack([(areas * others).sqrt(), (areas / others).sqrt()], dim=1)
    reshaped = sides.clamp(declaration.low, declaration.high).to(sizes.dtype)
    return torch.where((others == ratios)[:, None], sizes, reshaped)


def _ratios(sizes: Float[Tensor, "count 2"]) -> Float64[Tensor, " count"]:
    return sizes[:, 0].double() / sizes[:, 1].double()


def _half_the_ranks_away(values: Float[Tensor, "count ..."]) -> Int64[Tensor, " count"]:
    """For each row, the row half of the ranks away; equal rows rank by their position."""
    rows = values.reshape(len(values), -1).tolist()
    ranked = torch.tensor(sorted(range(len(rows)), key=lambda row: (rows[row], row)))
    partners = torch.empty_like(ranked)
    partners[ranked] = ranked.roll(-(len(rows) // 2))
    return partners


def changed_rows(
    right: Mapping[str, Tensor], wrong: Mapping[str, Tensor], field: str
) -> Bool[Tensor, " count"]:
    """Mask of the images whose values of the field differ."""
    if (name := CONTROL_FIELDS[field].ratio_of) is not None:
        return _ratios(right[name]) != _ratios(wrong[name])
    return (right[field] != wrong[field]).reshape(len(right[field]), -1).any(1)


def profile_measures(
    errors: FieldErrors, levels: Sequence[NoiseLevel], *, seed: int, protocol: dict[str, Any]
) -> list[Measure]:
    """``control profile FIELD at log-SNR L`` for each level, and the centre of the profile.

    ``control profile FIELD centre`` is the mean log-SNR of the levels, each weighted by the error
    that the wrong value adds there (negative values count as zero). It is omitted where the field
    adds nothing at any level. Intervals are over images; a single image has none.
    """
    is_ratio = CONTROL_FIELDS[errors.field].ratio_of is not None
    rule = WRONG_RATIO_RULE if is_ratio else WRONG_VALUE_RULE
    added, shared = errors.added, protocol | {"wrong": rule}
    if not len(added):
        return []
    level_measures = [
        mean_measure(
            PROFILE_POINT(control=errors.field, at=level.requested),
            added[:, column],
            seed=seed,
            protocol=shared
            | {"log_snr": level.requested, "log_snr_reached": round(level.reached, 3)},
        )
        for column, level in enumerate(levels)
    ]
    reached = torch.tensor([level.reached for level in levels], dtype=torch.float64)
    value = float(_centre(added.mean(0)[None], reached)[0])
    if math.isnan(value):  # no level has an added error
        return level_measures
    metric = PROFILE_CENTRE(control=errors.field)
    low, high = None, None
    if len(added) > 1:
        resampling = generator("subset", seed, "bootstrap", metric.name)
        rows = torch.randint(len(added), (RESAMPLES, len(added)), generator=resampling)
        resampled = _centre(torch.stack([added[row].mean(0) for row in rows]), reached)
        low, high = percentile_interval(resampled[~resampled.isnan()])
    centre = Measure.of(
        metric,
        value,
        low=low,
        high=high,
        interval_over="none" if low is None else "samples",
        n=len(added),
        protocol=shared | {"seed": seed, "log_snrs": [level.requested for level in levels]},
    )
    return [centre, *level_measures]


def _centre(
    added: Float64[Tensor, "curves levels"], log_snrs: Float64[Tensor, " levels"]
) -> Float64[Tensor, " curves"]:
    """Weighted mean log-SNR of each curve; nan where a curve lies at or below zero."""
    weights = added.clamp(min=0)
    return (weights * log_snrs).sum(1) / weights.sum(1)
