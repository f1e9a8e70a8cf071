# SPDX-License-Identifier: Apache-2.0
"""Control drift and effect: does a control do its work, and nothing else?

Images are made twice from the same seeds and classes under two values of one control. *Drift*
is how different they look once the control's own work is undone; *effect* is how much of that
work is seen. A model that ignores the control has no drift and no effect, so neither is ever
read alone. The same figures for real pairs (one vector picture prepared both ways) are the floor
of drift and the target of effect, and *excess drift* is what the model adds.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jaxtyping import Float
from torch import Tensor

from pippin.evaluation.measure import Measure, Subject, bootstrap_means, mean_measure, middle
from pippin.evaluation.perceptual import PairDistance
from pippin.evaluation.probes import Effect, Probe
from pippin.types import Images

Render = Callable[[Mapping[str, tuple[float, ...]]], Images]
"""Values of every field of a Control -> images; the same seeds and classes (generated), or the
same pictures (real), in the same order in each call. A model without some field ignores it."""


@dataclass(frozen=True, kw_only=True)
class Observation:
    """What a probe sees in one set of pairs."""

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
        probes: which pairs of control values.
        generated: renders the model's images.
        real: renders real counterfactual pairs, of pictures that need not be the model's.
        distance: what drift is measured in.
        seed: of the bootstrap over images.

    Returns:
        For each probe: ``drift NAME`` and ``effect NAME`` of the model (subject "arm"), the same
        of real pairs (subject "real"), and ``excess drift NAME``. Intervals are over images.

    Raises:
        ValueError: a renderer changed the number or size of its images between calls, or the
            images cannot show what the probe varies.
    """
    found: list[Measure] = []
    for probe in probes:
        ours = observe(probe, generated, distance)
        theirs = observe(probe, real, distance)
        found += subject_measures(probe, ours, distance, seed, "arm")
        protocol = _protocol(probe, distance)
        found.append(_excess(probe.name, ours.drift, theirs.drift, seed, distance.name, protocol))
        found += subject_measures(probe, theirs, distance, seed, "real")
    return found


def observe(probe: Probe, render: Render, distance: PairDistance) -> Observation:
    """Per-image drift and effects under one probe."""
    first, second = (render(control.values()) for control in probe.controls)
    if first.shape != second.shape:
        raise ValueError(
            f"the two renderings for the {probe.name} probe must show the same images: got "
            f"{tuple(first.shape)} and {tuple(second.shape)}"
        )
    return Observation(
        drift=distance(*probe.align(first, second)),
        effects=probe.effects(first, second, distance),
    )


def subject_measures(
    probe: Probe,
    seen: Observation,
    distance: PairDistance,
    seed: int,
    subject: Subject,
) -> list[Measure]:
    """``drift NAME`` and ``effect NAME`` of what was observed under one probe."""
    drift = Effect(name="drift", values=seen.drift, unit=distance.name, better="lower")
    return [
        mean_measure(
            f"{one.name} {probe.name}",
            one.values,
            seed=seed,
            unit=one.unit,
            better=one.better,
            subject=subject,
            protocol=_protocol(probe, distance),
        )
        for one in (drift, *seen.effects)
        if len(one.values)
    ]


def _excess(
    name: str, ours: Tensor, real: Tensor, seed: int, unit: str, protocol: dict[str, Any]
) -> Measure:
    """Generated minus real; the two sets are resampled apart, for they show other pictures."""
    purpose = f"excess drift {name}"
    low, high = middle(
        bootstrap_means(ours, seed, f"{purpose} generated")
        - bootstrap_means(real, seed, f"{purpose} real")
    )
    return Measure(
        name=purpose,
        value=float(ours.double().mean() - real.double().mean()),
        low=low,
        high=high,
        interval_over="samples",
        n=len(ours),
        unit=unit,
        better="lower",
        protocol=protocol | {"seed": seed, "real_pairs": len(real)},
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
