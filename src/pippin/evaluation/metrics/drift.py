# SPDX-License-Identifier: Apache-2.0
"""Control drift and effect, and drift at a fixed effect.

Images are sampled twice from the same seeds and classes under two values of one control. *Drift*
is their remaining difference once the control's own change is undone; *effect* is the size of
that change. A model that ignores the control has no drift and no effect, so read both together.
Real pairs (one SVG image prepared both ways) give the floor of drift and the target of effect,
and *excess drift* is what the model adds.

A model may drift little because it hardly responds to the control. Control guidance (scale beta,
Berrada et al. 2024) sets the strength of the response: beta = 0 ignores the control, with no drift
and no effect, and larger values exaggerate it. Varying beta gives a curve of drift against effect.
The *matched drift* is the drift at which the curve reaches a fixed effect: a share, by default
half, of the effect of real pairs.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from pippin.evaluation.features.efflite0 import PairDistance
from pippin.evaluation.measure import (
    RESAMPLES,
    Measure,
    Subject,
    bootstrap_means,
    mean_measure,
    percentile_interval,
)
from pippin.evaluation.metrics.declared.drift import DRIFT, EXCESS_DRIFT, MATCHED_DRIFT
from pippin.evaluation.probes import Effect, Probe
from pippin.rng import generator
from pippin.types import Images

Render = Callable[[Mapping[str, tuple[float, ...]]], Images]
"""Values of every field of a Control -> images: the same seeds and classes (generated), or the
same source images (real), in the same order in each call. A model without a field ignores it."""


@dataclass(frozen=True, kw_only=True)
class Observation:
    """Drift and effects of one probe on one set of pairs."""

    drift: Float[Tensor, " pairs"]
    effects: list[Effect]


def control_measures(
    probes: Sequence[Probe],
    generated: Render,
    real: Render,
    distance: PairDistance,
    *,
    seed: int,
) -> list[Measure]:
    """Drift, effect and excess drift of every probe.

    Args:
        probes: pairs of control values.
        generated: renders the model's images.
        real: renders real counterfactual pairs, which need not show what the model's images show.
        distance: distance of drift.
        seed: seed of the bootstrap over images.

    Returns:
        For each probe: ``drift NAME`` and ``effect NAME`` of the model (subject "arm"), the same
        of real pairs (subject "real"), and ``excess drift NAME``. Intervals are over images.

    Raises:
        ValueError: a renderer changed the number or size of its images between calls, or the
            images cannot show what the probe varies.
    """
    measures: list[Measure] = []
    for probe in probes:
        generated_pairs = observe(probe, generated, distance)
        real_pairs = observe(probe, real, distance)
        measures += subject_measures(probe, generated_pairs, distance, seed, "arm")
        measures.append(_excess(probe, generated_pairs.drift, real_pairs.drift, distance, seed))
        measures += subject_measures(probe, real_pairs, distance, seed, "real")
    return measures


def observe(probe: Probe, render: Render, distance: PairDistance) -> Observation:
    """Per-image drift and effects under one probe."""
    first, second = (render(control.values()) for control in probe.controls)
    if first.shape != second.shape:
        raise ValueError(
            f"the two sets of images of the {probe.name} probe must have the same shape; got "
            f"{tuple(first.shape)} and {tuple(second.shape)}"
        )
    return Observation(
        drift=distance(*probe.align(first, second)),
        effects=probe.effects(first, second, distance),
    )


def subject_measures(
    probe: Probe,
    observation: Observation,
    distance: PairDistance,
    seed: int,
    subject: Subject,
) -> list[Measure]:
    """``drift NAME`` and ``effect NAME`` of the observation of one probe."""
    drift = Effect(kind=DRIFT, values=observation.drift, unit=distance.name)
    return [
        mean_measure(
            effect.kind(control=probe.name, position=probe.position),
            effect.values,
            seed=seed,
            unit=effect.unit,
            subject=subject,
            protocol=_protocol(probe, distance),
        )
        for effect in (drift, *observation.effects)
        if len(effect.values)
    ]


def _excess(
    probe: Probe, generated: Tensor, real: Tensor, distance: PairDistance, seed: int
) -> Measure:
    """Generated minus real; the sets are resampled separately, since they show other images. A
    single pair has no interval."""
    metric = EXCESS_DRIFT(control=probe.name, position=probe.position)
    low, high = None, None
    if min(len(generated), len(real)) > 1:
        low, high = percentile_interval(
            bootstrap_means(generated, seed, f"{metric.name} generated")
            - bootstrap_means(real, seed, f"{metric.name} real")
        )
    return Measure.of(
        metric,
        float(generated.double().mean() - real.double().mean()),
        low=low,
        high=high,
        interval_over="none" if low is None else "samples",
        n=len(generated),
        unit=distance.name,
        protocol=_protocol(probe, distance) | {"seed": seed, "real_pairs": len(real)},
    )


def _protocol(probe: Probe, distance: PairDistance) -> dict[str, Any]:
    first, second = (control.protocol() for control in probe.controls)
    return probe.protocol() | {
        "distance": distance.name,
        "distance_fingerprint": distance.fingerprint,
        "distance_input_size": distance.input_size,
        "first": {name: list(value) for name, value in first.items()},
        "second": {name: list(value) for name, value in second.items()},
    }


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
    one resample in forty does not reach the effect. A single pair has no interval.

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
    low, high = None, None
    if pairs > 1:
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
            interval_over="none" if low is None else "samples",
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
