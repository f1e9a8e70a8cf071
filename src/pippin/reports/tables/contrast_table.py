# SPDX-License-Identifier: Apache-2.0
"""The table of declared contrasts: one line for each claim."""

import re
from dataclasses import dataclass
from typing import Literal

from pippin.evaluation.control_words import control_label
from pippin.evaluation.metric_registry import find_metric
from pippin.reports.report_source import Source
from pippin.reports.tables.results_table import real_mean, series_of, split_by_protocol
from pippin.studies.claims import Verdict
from pippin.studies.contrast_verdict import ContrastResult, contrast_results
from pippin.studies.contrasts import Contrast
from pippin.studies.power import contrast_power, seeds_needed
from pippin.studies.statistics import Estimate, number, plus_minus, roughly
from pippin.studies.verdict import Series


def evaluate_contrasts(source: Source) -> list[ContrastResult]:
    """Results of all declared contrasts, in the declared order; primary ones have a verdict.

    For each metric only rows of one protocol count, as in the table of results.
    """
    declared = source.declaration
    metrics = {metric for contrast in declared.contrasts for metric in contrast.metrics}
    means: dict[tuple[str, str], Series] = {}
    real: dict[str, float] = {}
    for metric in sorted(metrics):
        rows = [row for row in source.results.rows if row.metric == metric]
        main, _ = split_by_protocol([row for row in rows if row.subject == "arm"])
        means |= {(arm, metric): series_of(source, arm, main) for arm in declared.arms}
        value = real_mean(rows, main[0], declared.paths) if main else None
        if value is not None:
            real[metric] = value
    return contrast_results(declared.contrasts, means, real)


HEADS = ("claim", "estimate", "predicted", "smallest effect", "p", "power", "verdict")
TARGET_POWER = 0.8
READING = (
    "Estimate: weighted sum of arms' means ± half of its own 95 % interval (Student t over "
    "seeds).",
    "p of primary claims is adjusted by Holm's step-down over all of them and decides; the others "
    "are exploratory: not adjusted, no verdict.",
    "Power: the chance of “supported” at the smallest effect (at 0 where no difference is "
    f"predicted), by the spread over seeds that was found; behind it how many seeds would give "
    f"{TARGET_POWER:g}.",
)
"""Notes that explain the table."""
_PREDICTED = {
    "negative": "below 0",
    "positive": "above 0",
    "none": "no difference that matters",
    "open": "a difference",
}
ClaimTone = Literal["good", "bad", "undecided", "mute"]
TONES: dict[Verdict, ClaimTone] = {
    "supported": "good",
    "not supported": "bad",
    "inconclusive": "undecided",
    "exploratory": "mute",
}


@dataclass(frozen=True, kw_only=True)
class ClaimLine:
    """One line of a table of claims: contrasts or agreements."""

    name: str
    claim: str
    formula: str
    """The weighted sum, with the unit."""
    cells: tuple[str, ...]
    """The cells after the claim, in the order of the table's heads."""
    reason: str
    tone: ClaimTone


def contrast_lines(source: Source, results: list[ContrastResult]) -> list[ClaimLine]:
    """One line for each evaluated contrast, in the given order."""
    units = {row.metric: row.unit for row in source.results.rows if row.subject == "arm"}
    family = sum(result.contrast.role == "primary" for result in results)
    return [_line(result, units, family) for result in results]


def contrast_label(contrast: Contrast) -> str:
    """Name of a contrast in reports: metrics and control fields in it appear by their labels.

    ``a less b, matched drift original_size`` becomes ``a less b, matched drift (original size)``.
    """
    metrics = [find_metric(name) for name in contrast.metrics]
    labels = {metric.control: control_label(metric.control) for metric in metrics}
    labels |= {metric.name: metric.label for metric in metrics}
    named = sorted(filter(None, labels), key=len, reverse=True)  # a metric before its field
    if not named:
        return contrast.name
    pattern = rf"(?<!\w)({'|'.join(map(re.escape, named))})(?!\w)"
    return re.sub(pattern, lambda match: labels[match[1]], contrast.name)


def _line(result: ContrastResult, units: dict[str, str], family: int) -> ClaimLine:
    contrast = result.contrast
    small = contrast.smallest_effect
    return ClaimLine(
        name=contrast_label(contrast),
        claim=contrast.claim,
        formula=_formula(result, units),
        cells=(
            estimate_text(result.estimate),
            _PREDICTED[contrast.predicted],
            "none declared" if small is None else number(small),
            _p(result),
            _power(result, family),
            result.verdict,
        ),
        reason=result.reason,
        tone=TONES[result.verdict],
    )


def estimate_text(estimate: Estimate | None) -> str:
    """The estimate with half of its interval and the number of seeds."""
    if estimate is None:
        return "not measured"
    if estimate.half_width is None:
        return f"{roughly(estimate.mean)} (one seed)"
    return f"{plus_minus(estimate.mean, estimate.half_width, plus='+')} ({estimate.count} seeds)"


def _formula(result: ContrastResult, units: dict[str, str]) -> str:
    """``+0.5 a +0.5 b −1 c of FD-efflite0``."""
    parts = []
    for metric in result.contrast.metrics:
        terms = [term for term in result.contrast.terms if term.metric == metric]
        text = " ".join(f"{_weight(term.weight)} {term.arm}" for term in terms)
        parts.append(f"{text} of {find_metric(metric).label}")
    shares = result.contrast.scale == "share of real"
    known_units = {units.get(metric, "") for metric in result.contrast.metrics} - {""}
    unit = "shares of real images' value" if shares else ", ".join(sorted(known_units))
    return "; ".join(parts) + (f" (unit: {unit})" if unit else "")


def _weight(weight: float) -> str:
    sign = "\N{MINUS SIGN}" if weight < 0 else "+"
    return f"{sign}{abs(weight):.3g}"


def _p(result: ContrastResult) -> str:
    if result.p is None:
        return "\N{EN DASH}"
    if result.adjusted is None:
        return f"{p_text(result.p)}, not adjusted"
    against = result.adjusted_against
    if result.verdict == "not supported" and against is not None:
        return f"{p_text(result.adjusted)}; against {p_text(against)}"
    return p_text(result.adjusted)


def p_text(value: float) -> str:
    """Two digits; none below 0.0001."""
    return "< 0.0001" if value < 1e-4 else f"{value:.2g}"


def _power(result: ContrastResult, family: int) -> str:
    """The power at the observed spread, and the number of seeds with the target power; a dash for
    contrasts that are never supported."""
    contrast, count = result.contrast, result.estimate.count if result.estimate else 0
    if contrast.role != "primary" or not result.spread or count < 2:
        return "\N{EN DASH}"
    power = contrast_power(contrast, result.spread, count, family)
    if power is None:
        return "\N{EN DASH}"
    needed = seeds_needed(contrast, result.spread, TARGET_POWER, family)
    return f"{power:.2f}; {needed or 'over 1000'} seeds"
