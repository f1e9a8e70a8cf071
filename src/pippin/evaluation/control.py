# SPDX-License-Identifier: Apache-2.0
"""Control drift and effect: does a control change what it should, and nothing else?

Images are sampled twice from the same seeds and classes under two values of one control. *Drift*
is their remaining difference once the control's own change is undone; *effect* is the size of
that change. A model that ignores the control has no drift and no effect, so read both together.
Real pairs (one SVG drawing prepared both ways) give the floor of drift and the target of effect,
and *excess drift* is what the model adds.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jaxtyping import Float
from torch import Tensor

from pippin.evaluation.measure import (
    Measure,
    Subject,
    bootstrap_means,
    mean_measure,
    percentile_interval,
)
from pippin.evaluation.metrics.control import DRIFT, EXCESS_DRIFT
from pippin.evaluation.perceptual import PairDistance
from pippin.evaluation.probes import Effect, Probe
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
    """Generated minus real; the sets are resampled separately, since they show other images."""
    metric = EXCESS_DRIFT(control=probe.name, position=probe.position)
    low, high = percentile_interval(
        bootstrap_means(generated, seed, f"{metric.name} generated")
        - bootstrap_means(real, seed, f"{metric.name} real")
    )
    return Measure.of(
        metric,
        float(generated.double().mean() - real.double().mean()),
        low=low,
        high=high,
        interval_over="samples",
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
