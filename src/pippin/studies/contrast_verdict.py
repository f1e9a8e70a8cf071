# SPDX-License-Identifier: Apache-2.0
"""Verdicts on declared contrasts.

With psi_s the weighted sum at training seed s, n seeds and d = mean(psi_s), the statistic
(d - x) sqrt(n) / s  is Student's t with n - 1 degrees of freedom at a true value of x. Every
p-value here is twice a one-sided p-value, so that p <= 0.05 agrees with the 95 % interval. With
a smallest effect e (0 if none was declared), the tested bounds are:

    predicted   supported: psi shown to be    not supported: psi shown to be
    negative    below 0                       above -e
    positive    above 0                       below +e
    none        between -e and +e             below -e or above +e
    open        below 0 or above 0            between -e and +e

A difference that is shown to be both (beyond zero, and too small to matter) is not supported; all
else is inconclusive. Holm's step-down adjusts the p-values of the primary contrasts: the
supporting ones are one family, the refuting ones another. The probability of any false
"supported" in a study is at most 5 %, and so is that of any false "not supported".
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import stdev
from typing import cast

import numpy as np
from numpy.typing import ArrayLike

from pippin.evaluation.metric_registry import find_metric
from pippin.studies.claims import NO_COMMON_SEED, NOT_CORRECTED, Verdict, verdict_without_test
from pippin.studies.contrasts import Contrast
from pippin.studies.statistics import LEVEL, Estimate, FloatArray, holm, over_seeds, tail
from pippin.studies.verdict import ONE_SEED, Series, metric_gap

Means = Mapping[tuple[str, str], Series]
"""(arm, metric) -> the arm's values by training seed."""
ROUNDING = 1e-12
"""Tolerance above 0.05 for rounding errors."""


@dataclass(frozen=True, kw_only=True)
class ContrastResult:
    """One contrast with its estimate, p-values and verdict."""

    contrast: Contrast
    verdict: Verdict
    reason: str
    """A sentence."""
    estimate: Estimate | None = None
    """With the unadjusted 95 % interval; None if no seed has all terms."""
    spread: float | None = None
    """Standard deviation over seeds; None with fewer than two."""
    p: float | None = None
    """Unadjusted p-value of the test that would support the prediction; None without a test."""
    p_against: float | None = None
    """Unadjusted p-value of the test that would refute it."""
    adjusted: float | None = None
    """``p`` after Holm's step-down over the primary contrasts; None for all others."""
    adjusted_against: float | None = None


def contrast_results(
    contrasts: Sequence[Contrast], means: Means, real: Mapping[str, float]
) -> list[ContrastResult]:
    """Evaluate the contrasts of a study; the primary ones are one family.

    Args:
        contrasts: all declared contrasts.
        means: values of every arm and metric of the contrasts; absent ones are not measured yet.
        real: metric -> its mean on real images, for contrasts on the scale "share of real".
    """
    results = [_measured(contrast, means, real) for contrast in contrasts]
    family = [index for index, result in enumerate(results) if result.contrast.role == "primary"]
    # A contrast without a test still counts in the family: it was declared with the others.
    p = holm([_or_unity(results[index].p) for index in family])
    against = holm([_or_unity(results[index].p_against) for index in family])
    for index, supporting, refuting in zip(family, p.tolist(), against.tolist(), strict=True):
        if results[index].p is not None:
            results[index] = _decided(results[index], supporting, refuting)
    return results


def seed_sums(contrast: Contrast, means: Means, real: Mapping[str, float]) -> dict[int, float]:
    """Training seed -> weighted sum, over the seeds that have every term."""
    shares = contrast.scale == "share of real"
    terms = [
        (term.weight / (real[term.metric] if shares else 1.0), means[term.arm, term.metric].values)
        for term in contrast.terms
    ]
    common = set.intersection(*(set(values) for _, values in terms))
    return {
        seed: math.fsum(weight * values[seed] for weight, values in terms)
        for seed in sorted(common)
    }


def p_values(
    contrast: Contrast, mean: ArrayLike, error: ArrayLike, freedom: int
) -> tuple[FloatArray, FloatArray]:
    """P-values for and against the prediction of a contrast, each twice a one-sided p-value.

    Args:
        contrast: its prediction and smallest effect are used.
        mean: (studies,), means of the weighted sums.
        error: (studies,), standard errors of the means.
        freedom: degrees of freedom of the standard errors.
    """
    small, at = contrast.smallest_effect or 0.0, np.asarray(mean, float)

    def above(bound: float) -> FloatArray:
        return np.minimum(1.0, 2 * tail(at - bound, error, freedom))

    def below(bound: float) -> FloatArray:
        return np.minimum(1.0, 2 * tail(bound - at, error, freedom))

    inside = np.maximum(above(-small), below(small)) if small else np.ones_like(at)
    if contrast.predicted == "negative":
        return below(0.0), above(-small)
    if contrast.predicted == "positive":
        return above(0.0), below(small)
    if contrast.predicted == "none":
        return inside, np.minimum(above(small), below(-small))
    return np.minimum(above(0.0), below(0.0)), inside


def decide(p: ArrayLike, against: ArrayLike) -> np.ndarray:
    """Verdicts from adjusted p-values for and against each prediction, of equal shapes."""
    supports, refutes = (np.asarray(values) <= 1 - LEVEL + ROUNDING for values in (p, against))
    return np.where(refutes, "not supported", np.where(supports, "supported", "inconclusive"))


def _measured(contrast: Contrast, means: Means, real: Mapping[str, float]) -> ContrastResult:
    """Estimate and unadjusted p-values; the verdict is final only if no test is possible."""
    verdict = verdict_without_test(contrast.role)
    empty = ContrastResult(contrast=contrast, verdict=verdict, reason="")
    reason = _obstacle(contrast, means, real)
    if contrast.scale == "share of real" and any(
        not real.get(m, 0.0) > 0 for m in contrast.metrics
    ):
        return replace(empty, reason=reason)
    if any((term.arm, term.metric) not in means for term in contrast.terms):
        return replace(empty, reason=reason)
    sums = seed_sums(contrast, means, real)
    if not sums:
        return replace(empty, reason=reason or NO_COMMON_SEED)
    measured = replace(empty, estimate=over_seeds(sums), reason=reason)
    if len(sums) == 1:
        return replace(measured, reason=reason or ONE_SEED)
    spread = stdev(sums.values())
    assert measured.estimate is not None
    p, against = p_values(
        contrast, [measured.estimate.mean], [spread / math.sqrt(len(sums))], len(sums) - 1
    )
    if reason:
        return replace(measured, spread=spread)
    text = "" if contrast.role == "primary" else NOT_CORRECTED
    return replace(measured, spread=spread, p=p.item(), p_against=against.item(), reason=text)


def _obstacle(contrast: Contrast, means: Means, real: Mapping[str, float]) -> str:
    """Reason why no verdict is possible whatever the numbers are; empty if one is possible."""
    for metric in contrast.metrics if contrast.scale == "share of real" else ():
        if not real.get(metric, 0.0) > 0:
            return f"{find_metric(metric).label} has no value of real images above 0 to divide by."
    for term in contrast.terms:
        if reason := metric_gap(term.metric, term.arm, means.get((term.arm, term.metric))):
            return reason
    return ""


def _decided(result: ContrastResult, p: float, against: float) -> ContrastResult:
    """The result with its verdict from adjusted p-values."""
    verdict = cast(Verdict, str(decide(p, against)))
    supports = bool(decide(p, 1.0) == "supported")
    return replace(
        result,
        adjusted=p,
        adjusted_against=against,
        verdict=verdict,
        reason=_reason(result, verdict, supports),
    )


def _reason(result: ContrastResult, verdict: Verdict, supports: bool) -> str:
    contrast, estimate = result.contrast, result.estimate
    assert estimate is not None and estimate.low is not None and estimate.high is not None
    small, predicted = contrast.smallest_effect, contrast.predicted
    matters = f"the smallest effect that matters ({small:g})" if small else ""
    if verdict == "inconclusive":
        return "The data agree with the prediction, and with its contrary."
    if verdict == "not supported":
        if predicted == "none":
            return f"The difference is larger than {matters}."
        if supports:
            return f"The difference is smaller than {matters}."
        return f"A {predicted if predicted != 'open' else 'different'} value" + (
            f" as large as {matters} is excluded." if small else " is excluded."
        )
    if predicted == "none":
        return f"The difference is smaller than {matters}."
    if not small:
        return ""
    if min(abs(estimate.low), abs(estimate.high)) >= small and estimate.low * estimate.high > 0:
        return f"The whole interval is beyond {matters}."
    return f"Whether it is as large as {matters} is undecided."


def _or_unity(p: float | None) -> float:
    return 1.0 if p is None else p
