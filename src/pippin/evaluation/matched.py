# SPDX-License-Identifier: Apache-2.0
"""Drift at equal effect: what a model changes besides, when it obeys as much as another one.

A model may drift little because it hardly obeys. Control guidance (beta, Berrada et al. 2024) is
a dial for how much a given model obeys: beta = 0 ignores the control, with no drift and no
effect, and larger values exaggerate it. Along that dial a model draws a curve of drift against
effect, and its *matched drift* is the drift at which the curve reaches a stated effect: a share,
by default half, of what real pairs show.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from pippin.evaluation.measure import RESAMPLES, Measure
from pippin.rng import generator

SHARE = 0.5
"""Of the effect of real pairs: what models are compared at unless another share is asked for."""


@dataclass(frozen=True, kw_only=True)
class Point:
    """One place of the curve, pair by pair; every point has the same pairs in the same order."""

    scale: float
    """beta."""
    drift: Float[Tensor, " pairs"]
    effect: Float[Tensor, " pairs"]


def matched_drift(
    name: str,
    points: Sequence[Point],
    real_effect: Float[Tensor, " pairs"],
    *,
    seed: int,
    protocol: dict[str, Any],
    share: float = SHARE,
) -> list[Measure]:
    """``matched drift NAME``: by linear interpolation between the points of rising beta, from
    (0, 0) on, where the effect first reaches ``share`` of that of real pairs.

    Nothing is returned where no point reaches it, or real pairs show no effect. The interval is a
    bootstrap over pairs, generated and real ones together; its upper end is None where more than
    one resample in forty does not reach the effect.

    Args:
        name: of the control.
        points: of one model, at beta above 0; beta = 0 ignores the control, which gives (0, 0).
        real_effect: of the real pairs, in the order of the points' pairs.
        seed: of the bootstrap.
        protocol: of the measures that the points come from.
        share: of the effect of real pairs, at which models are compared.
    """
    ordered = sorted(points, key=lambda point: point.scale)
    drifts = torch.stack([point.drift.double() for point in ordered])  # (points, pairs)
    effects = torch.stack([point.effect.double() for point in ordered])
    target = share * real_effect.double()
    value = float(_reached(drifts.mean(1)[None], effects.mean(1)[None], target.mean()[None]))
    if not target.mean() > 0 or value == torch.inf:
        return []
    pairs = drifts.shape[1]
    draws = generator("subset", seed, "bootstrap", f"matched drift {name}")
    rows = torch.randint(pairs, (RESAMPLES, pairs), generator=draws)
    resampled = _reached(
        drifts[:, rows].mean(2).T, effects[:, rows].mean(2).T, target[rows].mean(1)
    )
    ordered_values = resampled.sort().values  # a quantile between inf and inf would be nan
    low, high = (float(ordered_values[round(q * (RESAMPLES - 1))]) for q in (0.025, 0.975))
    return [
        Measure(
            name=f"matched drift {name}",
            value=value,
            low=low,
            high=None if high == torch.inf else high,
            interval_over="samples",
            n=pairs,
            unit="efflite0-distance",
            better="lower",
            protocol=protocol | {"share_of_real_effect": share, "seed": seed},
        )
    ]


def _reached(
    drifts: Float64[Tensor, "curves points"],
    effects: Float64[Tensor, "curves points"],
    target: Float64[Tensor, " curves"],
) -> Float64[Tensor, " curves"]:
    """The drift where each curve first reaches the target effect; infinite where none does."""
    origin = drifts.new_zeros(len(drifts), 1)
    x, y = torch.cat([origin, effects], 1), torch.cat([origin, drifts], 1)
    found = torch.full((len(drifts),), torch.inf, dtype=torch.float64)
    for left in reversed(range(x.shape[1] - 1)):  # so that the first segment has the last word
        start, end = x[:, left], x[:, left + 1]
        crosses = (start < target) & (end >= target)
        share = (target - start) / (end - start)
        between = y[:, left] + share * (y[:, left + 1] - y[:, left])
        found = torch.where(crosses, between, found)
    return found
