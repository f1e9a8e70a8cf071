# SPDX-License-Identifier: Apache-2.0
"""What may be claimed from paired seeds, in words.

A direction is claimed where the interval of the paired difference leaves zero out; a difference
that matters where it lies wholly beyond the smallest effect declared before the run; no difference
that matters where it lies wholly inside. All else is undecided at this scale. With several arms,
each comparison with the first one gets the level 1 - 0.05 / comparisons (Bonferroni).

Where a metric has a target, what real pictures show, all of this is said of the distances from it:
a model that acts on a control more than real pairs do is as wrong as one that acts less.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from pippin.study.digits import plus_minus, roughly
from pippin.study.statistics import LEVEL, Estimate, paired

NEARER = " of the distances from real pictures' value"
"""Ends what is said of a difference, where that is what decides."""
ONE_SEED = (
    "With one training seed nothing is known of how another training run would come out: the "
    "intervals are over samples only."
)
Status = Literal["better", "worse", "different", "same", "undecided"]


@dataclass(frozen=True, kw_only=True)
class Series:
    """One arm's values of one metric."""

    arm: str
    values: dict[int, float]
    """Training seed -> finite value."""
    diverged: tuple[int, ...] = ()
    """Seeds whose value is not finite."""
    absent: tuple[int, ...] = ()
    """Seeds whose run finished without this metric."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """One arm against the first one, by one metric."""

    first: str
    second: str
    status: Status
    """Of ``second``; "different" for a metric of which neither direction is better."""
    matters: bool
    """The difference is larger than the smallest effect declared."""
    difference: Estimate | None
    """second - first over common seeds; None where they share none."""
    reason: str
    """Why the status is what it is; a sentence, or empty where the status says it all."""
    size: str
    """The difference and the half-width of its interval; empty where there is none."""
    basis: str
    """What the interval is and how many seeds it rests on."""
    diverged: tuple[str, ...] = ()
    """Which of the two diverged in some seed."""


def compare(
    series: Sequence[Series],
    *,
    better: str,
    smallest_effect: float | None = None,
    target: float | None = None,
) -> list[Comparison]:
    """Each series against the first, at a joint level of 95 %.

    Args:
        series: the first is the one that the others are compared with.
        better: "lower", "higher", or something else where neither is.
        smallest_effect: in the metric's unit; None where none was declared.
        target: the value that is best; None = ``better`` says what is.
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
    found = paired(first.values, second.values, level)
    status: Status = "undecided"
    matters = False
    reason = _obstacle(first, second, found)
    if found is not None and not reason:
        judged, way = found, better
        if target is not None:
            judged, way = _nearer(first, second, level, target), "lower"
        status, matters = _judge(judged, way, smallest_effect)
        reason = _reason(status, matters, smallest_effect, "" if target is None else NEARER)
    return Comparison(
        first=first.arm,
        second=second.arm,
        status=status,
        matters=matters,
        difference=found,
        reason=reason,
        size="" if found is None else _size(found),
        basis="" if found is None else _basis(found, level),
        diverged=tuple(one.arm for one in (first, second) if one.diverged),
    )


def _nearer(first: Series, second: Series, level: float, target: float) -> Estimate:
    """How much farther from the target the second is."""
    ours, theirs = (
        {seed: abs(value - target) for seed, value in one.values.items()}
        for one in (first, second)
    )
    found = paired(ours, theirs, level)
    assert found is not None, "the values themselves have seeds in common"
    return found


def _obstacle(first: Series, second: Series, found: Estimate | None) -> str:
    """Why no verdict is possible whatever the numbers are; empty where it is."""
    for one in (first, second):
        if reason := gap(one):
            return reason
    if found is None:
        return f"{second.arm} and {first.arm} have no seed in common yet."
    if found.count == 1:
        return ONE_SEED
    return ""


def gap(one: Series) -> str:
    """Why an arm's mean would flatter it, whatever the numbers are; empty where it would not."""
    if one.diverged and not one.values:
        return f"{one.arm} diverged in every one of its {len(one.diverged)} runs."
    if one.diverged:
        total = len(one.diverged) + len(one.values)
        return (
            f"{one.arm} diverged in {len(one.diverged)} of {total} seeds, and the mean of the "
            "runs that remain would flatter it."
        )
    if one.absent and not one.values:
        return f"{one.arm} has no such number in any of its {len(one.absent)} seeds."
    if one.absent:
        total = len(one.absent) + len(one.values)
        return (
            f"{one.arm} has no such number in {len(one.absent)} of {total} seeds, and the "
            "mean of the runs that remain would flatter it."
        )
    return ""


def _judge(found: Estimate, better: str, smallest_effect: float | None) -> tuple[Status, bool]:
    assert found.low is not None and found.high is not None
    if smallest_effect is not None and max(abs(found.low), abs(found.high)) < smallest_effect:
        return "same", False
    if found.low <= 0 <= found.high:
        return "undecided", False
    matters = smallest_effect is not None and (
        min(abs(found.low), abs(found.high)) >= smallest_effect
    )
    if better not in ("lower", "higher"):
        return "different", matters
    return ("better" if (found.mean < 0) == (better == "lower") else "worse"), matters


def _reason(status: Status, matters: bool, smallest_effect: float | None, of_what: str) -> str:
    if status == "undecided":
        return f"The interval of the difference{of_what} holds zero."
    if smallest_effect is None:
        return ""
    effect = f"the smallest effect that matters ({smallest_effect:g})"
    if status == "same":
        return f"The whole interval is smaller than {effect}."
    if matters:
        return f"The whole interval is beyond {effect}."
    return f"Whether it is as large as {effect} is undecided."


def _size(found: Estimate) -> str:
    if found.half_width is None:
        return roughly(found.mean)
    return plus_minus(found.mean, found.half_width, plus="+")


def _basis(found: Estimate, level: float) -> str:
    if found.half_width is None:
        return "one seed, no interval"
    return f"{100 * level:.3g} % interval, {found.count} seeds"
