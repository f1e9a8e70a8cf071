# SPDX-License-Identifier: Apache-2.0
"""Matched drift: the drift of a model at a fixed effect.

A model may drift little because it hardly responds to the control. Control guidance (scale beta,
Berrada et al. 2024) sets the strength of the response: beta = 0 ignores the control, with no drift
and no effect, and larger values exaggerate it. Varying beta gives a curve of drift against effect.
The *matched drift* is the drift at which the curve reaches a fixed effect: a share, by default
half, of the effect of real pairs.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from pippin.evaluation.measure import RESAMPLES, Measure
from pippin.evaluation.metrics.control import MATCHED_DRIFT
from pippin.rng import generator

SHARE = 0.5
"""Default share of the real pairs' effect at which models are compared."""


@dataclass(frozen=True, kw_only=True)
class CurvePoint:
    """One point of the curve, pair by pair; all points have the same pairs in the same order."""

    scale: float
    """Control guidance scale, beta."""
    drift: Float[Tensor, " pairs"]
    effect: Float[Tensor, " pairs"]


def matched_drift(
    name: str,
    points: Sequence[CurvePoint],
    real_effect: Float[Tensor, " pairs"],
    *,
    seed: int,
    protocol: dict[str, Any],
    share: float = SHARE,
) -> list[Measure]:
    """``matched drift NAME``: the drift where the effect first reaches ``share`` of the effect of
    real pairs, by linear interpolation between the points of increasing beta, starting at (0, 0).

    The list is empty if no point reaches the effect, or if real pairs show no effect. The interval
    is a bootstrap over pairs, generated and real ones together; its upper end is None if more than
    one resample in forty does not reach the effect.

    Args:
        name: name of the control.
        points: points of one model, at beta above 0; beta = 0 ignores the control: (0, 0).
        real_effect: effect of the real pairs, in the order of the points' pairs.
        seed: seed of the bootstrap.
        protocol: protocol of the measures that the points come from.
        share: share of the real pairs' effect at which models are compared.
    """
    ordered = sorted(points, key=lambda point: point.scale)
    drifts = torch.stack([point.drift.double() for point in ordered])  # (points, pairs)
    effects = torch.stack([point.effect.double() for point in ordered])
    target = share * real_effect.double()
    value = float(
        _drift_at_effect(drifts.mean(1)[None], effects.mean(1)[None], target.mean()[None])
    )
    if not target.mean() > 0 or value == torch.inf:
        return []
    metric, pairs = MATCHED_DRIFT(control=name), drifts.shape[1]
    resampling = generator("subset", seed, "bootstrap", metric.name)
    rows = torch.randint(pairs, (RESAMPLES, pairs), generator=resampling)
    resampled = _drift_at_effect(
        drifts[:, rows].mean(2).T, effects[:, rows].mean(2).T, target[rows].mean(1)
    )
    ordered_values = resampled.sort().values  # a quantile between inf and inf would be nan
    low, high = (float(ordered_values[round(q * (RESAMPLES - 1))]) for q in (0.025, 0.975))
    return [
        Measure.of(
            metric,
            value,
            low=low,
            high=None if high == torch.inf else high,
            interval_over="samples",
            n=pairs,
            protocol=protocol | {"share_of_real_effect": share, "seed": seed},
        )
    ]


def _drift_at_effect(
    drifts: Float64[Tensor, "curves points"],
    effects: Float64[Tensor, "curves points"],
    target: Float64[Tensor, " curves"],
) -> Float64[Tensor, " curves"]:
    """Drift where each curve first reaches the target effect; infinite if it does not."""
    origin = drifts.new_zeros(len(drifts), 1)
    x, y = torch.cat([origin, effects], 1), torch.cat([origin, drifts], 1)
    reached = torch.full((len(drifts),), torch.inf, dtype=torch.float64)
    for left in reversed(range(x.shape[1] - 1)):  # reversed: the first crossing is assigned last
        start, end = x[:, left], x[:, left + 1]
        crosses = (start < target) & (end >= target)
        share = (target - start) / (end - start)
        between = y[:, left] + share * (y[:, left + 1] - y[:, left])
        reached = torch.where(crosses, between, reached)
    return reached
