# SPDX-License-Identifier: Apache-2.0
"""Verdicts on paired differences between arms.

A direction is claimed if the interval of the paired difference excludes zero; a difference that
matters if the interval lies entirely beyond the smallest effect declared before the run; no
difference that matters if it lies entirely inside. All else is undecided. With several arms, each
comparison with the baseline (the first arm) has the level 1 - 0.05 / comparisons (Bonferroni).

If a metric has a target, the value of real images, the distances from it are compared instead: a
model that responds to a control more than real pairs do is as wrong as one that responds less.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from pippin.evaluation.metric_registry import find_metric
from pippin.studies.statistics import LEVEL, Estimate, paired, plus_minus, roughly

NEARER = " of the distances from real images' value"
"""Suffix of reasons about the distances from a target."""
ONE_SEED = (
    "With one training seed the variation between training runs is unknown: the intervals are "
    "over samples only."
)
Status = Literal["better", "worse", "different", "same", "undecided"]


@dataclass(frozen=True, kw_only=True)
class Series:
    """One arm's values of one metric."""

    arm: str
    values: dict[int, float]
    """Training seed -> finite value."""
    diverged: tuple[int, ...] = ()
    """Seeds with a value that is not finite."""
    absent: tuple[int, ...] = ()
    """Seeds of runs that finished without this metric."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """One arm compared with the baseline, by one metric."""

    first: str
    second: str
    status: Status
    """Status of ``second``; "different" for a metric without a better direction."""
    matters: bool
    """True if the difference is larger than the declared smallest effect."""
    difference: Estimate | None
    """second - first over common seeds; None without a common seed."""
    reason: str
    """Reason for the status, a sentence; empty if the status needs none."""
    size: str
    """The difference and the half-width of its interval; empty without a difference."""
    basis: str
    """Level of the interval and number of seeds."""
    diverged: tuple[str, ...] = ()
    """Names of those of the two arms that diverged in some seed."""


def compare(
    series: Sequence[Series],
    *,
    better: str,
    smallest_effect: float | None = None,
    target: float | None = None,
) -> list[Comparison]:
    """Compare each series with the first, at a joint level of 95 %.

    Args:
        series: values of each arm; the first is the baseline.
        better: "lower", "higher", or another value if neither is better.
        smallest_effect: in the metric's unit; None if none was declared.
        target: the best value; None = ``better`` gives the better direction.
    """
    first, *others = series
    level = 1 - (1 - LEVEL) / max(len(others), 1)
    return [_comparison(first, other, better, smallest_effect, level, target) for other in others]


def _comparison(
    first: Series,
    second: Series,
    better: str,
    smallest_effect: float | None,
    level: float,
    target: float | None,
) -> Comparison:
    difference = paired(first.values, second.values, level)
    status: Status = "undecided"
    matters = False
    reason = _obstacle(first, second, difference)
    if difference is not None and not reason:
        judged, direction = difference, better
        if target is not None:
            judged, direction = _nearer(first, second, level, target), "lower"
        status, matters = _judge(judged, direction, smallest_effect)
        reason = _reason(status, matters, smallest_effect, "" if target is None else NEARER)
    return Comparison(
        first=first.arm,
        second=second.arm,
        status=status,
        matters=matters,
        difference=difference,
        reason=reason,
        size="" if difference is None else _size(difference),
        basis="" if difference is None else _basis(difference, level),
        diverged=tuple(values.arm for values in (first, second) if values.diverged),
    )


def _nearer(first: Series, second: Series, level: float, target: float) -> Estimate:
    """The paired difference of the distances from the target, second - first."""
    first_distances, second_distances = (
        {seed: abs(value - target) for seed, value in values.values.items()}
        for values in (first, second)
    )
    estimate = paired(first_distances, second_distances, level)
    assert estimate is not None, "the values themselves have seeds in common"
    return estimate


def _obstacle(first: Series, second: Series, difference: Estimate | None) -> str:
    """Reason why no verdict is possible whatever the numbers are; empty if one is possible."""
    for values in (first, second):
        if reason := gap(values):
            return reason
    if difference is None:
        return f"{second.arm} and {first.arm} have no seed in common yet."
    if difference.count == 1:
        return ONE_SEED
    return ""


def gap(series: Series) -> str:
    """Reason why an arm's mean would be biased by missing seeds; empty if it has all seeds."""
    if series.diverged and not series.values:
        return f"{series.arm} diverged in every one of its {len(series.diverged)} runs."
    if series.diverged:
        total = len(series.diverged) + len(series.values)
        return (
            f"{series.arm} diverged in {len(series.diverged)} of {total} seeds; the mean of its "
            "other seeds would be too optimistic."
        )
    if series.absent and not series.values:
        return (
            f"{series.arm} has no value of this metric in any of its {len(series.absent)} seeds."
        )
    if series.absent:
        total = len(series.absent) + len(series.values)
        return (
            f"{series.arm} has no value of this metric in {len(series.absent)} of {total} seeds; "
            "the mean of its other seeds would be too optimistic."
        )
    return ""


def metric_gap(metric: str, arm: str, series: Series | None) -> str:
    """Reason why a mean that a claim needs is missing or biased; empty if it is neither.

    Args:
        metric: name of the metric.
        arm: name of the arm.
        series: its values; None = not measured.
    """
    label = find_metric(metric).label
    if series is not None and (reason := gap(series)):
        return f"{label}: {reason}"
    if series is None or not series.values:
        return f"{label} of {arm} has not been measured yet."
    return ""


def _judge(estimate: Estimate, better: str, smallest_effect: float | None) -> tuple[Status, bool]:
    assert estimate.low is not None and estimate.high is not None
    if (
        smallest_effect is not None
        and max(abs(estimate.low), abs(estimate.high)) < smallest_effect
    ):
        return "same", False
    if estimate.low <= 0 <= estimate.high:
        return "undecided", False
    matters = smallest_effect is not None and (
        min(abs(estimate.low), abs(estimate.high)) >= smallest_effect
    )
    if better not in ("lower", "higher"):
        return "different", matters
    return ("better" if (estimate.mean < 0) == (better == "lower") else "worse"), matters


def _reason(status: Status, matters: bool, smallest_effect: float | None, of_what: str) -> str:
    if status == "undecided":
        return f"The interval of the difference{of_what} includes zero."
    if smallest_effect is None:
        return ""
    effect = f"the smallest effect that matters ({smallest_effect:g})"
    if status == "same":
        return f"The whole interval is smaller than {effect}."
    if matters:
        return f"The whole interval is beyond {effect}."
    return f"Whether it is as large as {effect} is undecided."


def _size(estimate: Estimate) -> str:
    if estimate.half_width is None:
        return roughly(estimate.mean)
    return plus_minus(estimate.mean, estimate.half_width, plus="+")


def _basis(estimate: Estimate, level: float) -> str:
    if estimate.half_width is None:
        return "one seed, no interval"
    return f"{100 * level:.3g} % interval, {estimate.count} seeds"
