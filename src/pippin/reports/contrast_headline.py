# SPDX-License-Identifier: Apache-2.0
"""The verdict of a study with declared contrasts: the first section of its page."""

from collections.abc import Sequence

from pippin.reports.agreement_headline import agreement_headline
from pippin.reports.cautions import cautions
from pippin.reports.headline import (
    Headline,
    Strip,
    Tone,
    claim_sentence,
    declared_values,
    headline,
)
from pippin.reports.report_source import Source
from pippin.reports.tables.agreement_table import evaluate_agreements
from pippin.reports.tables.contrast_table import contrast_label, estimate_text, evaluate_contrasts
from pippin.reports.tables.results_table import Line
from pippin.studies.claims import Verdict
from pippin.studies.contrast_verdict import ContrastResult

ORDER: tuple[Verdict, ...] = ("supported", "not supported", "inconclusive")
MARKS: dict[Verdict, str] = {
    "supported": "Supported",
    "not supported": "Not supported",
    "inconclusive": "Inconclusive",
}
_TONES: dict[frozenset[str], Tone] = {
    frozenset({"supported"}): "good",
    frozenset({"not supported"}): "bad",
    frozenset({"inconclusive"}): "undecided",
}


def study_headline(source: Source, lines: list[Line]) -> Headline:
    """The verdict of a study: by its contrasts or agreements if it declared any, else by its
    primary metric."""
    if source.declaration.agreements:
        return agreement_headline(source, lines, evaluate_agreements(source))
    if not source.declaration.contrasts:
        return headline(source, lines)
    return contrast_headline(source, lines, evaluate_contrasts(source))


def contrast_headline(
    source: Source, lines: list[Line], results: Sequence[ContrastResult]
) -> Headline:
    """One sentence for each primary claim, and intervals in units of the smallest effects."""
    primary = [result for result in results if result.contrast.role == "primary"]
    strips, band = _strips(primary)
    mark = _mark(primary)
    sentences = [
        claim_sentence(mark, MARKS[result.verdict], result.contrast.claim)
        for result in _ordered(primary)
    ]
    return Headline(
        mark=mark,
        sentence=" ".join(sentences) or "No primary contrast was declared; nothing is decided.",
        meaning="",
        tone=_TONES.get(
            frozenset(result.verdict for result in primary), "mixed" if primary else "same"
        ),
        details=tuple(_detail(result) for result in primary),
        strips=strips,
        left="negative",
        right="positive",
        companions=tuple(declared_values(source, lines)),
        cautions=tuple(cautions(source, _without_size(results))),
        band=band,
    )


def _ordered(results: Sequence[ContrastResult]) -> list[ContrastResult]:
    return [result for verdict in ORDER for result in results if result.verdict == verdict]


def _mark(primary: Sequence[ContrastResult]) -> str:
    if not primary:
        return "Exploratory"
    if not any(result.estimate for result in primary):
        return "No verdict yet"
    verdicts = {result.verdict for result in primary}
    if len(verdicts) == 1:
        return MARKS[primary[0].verdict]
    counts = ((sum(result.verdict == verdict for result in primary), verdict) for verdict in ORDER)
    return ", ".join(f"{count} {verdict}" for count, verdict in counts if count)


def _detail(result: ContrastResult) -> str:
    text = (
        f"{contrast_label(result.contrast)}: {estimate_text(result.estimate)}, {result.verdict}."
    )
    return f"{text} {result.reason}".strip()


def _without_size(results: Sequence[ContrastResult]) -> list[str]:
    names = [
        contrast_label(result.contrast)
        for result in results
        if result.contrast.role == "primary" and result.contrast.smallest_effect is None
    ]
    if not names:
        return []
    return [
        f"No smallest effect that matters was declared before the run for: {', '.join(names)}."
    ]


def _strips(primary: Sequence[ContrastResult]) -> tuple[tuple[Strip, ...], str]:
    """Each interval in units of its smallest effect, so that claims of several metrics share a
    scale; none where a claim has no smallest effect."""
    intervals = [
        (result.contrast, result.estimate)
        for result in primary
        if result.estimate and result.estimate.half_width
    ]
    if not intervals or any(contrast.smallest_effect is None for contrast, _ in intervals):
        return (), ""
    scaled = []
    for contrast, estimate in intervals:
        small = contrast.smallest_effect or 1.0
        assert estimate.low is not None and estimate.high is not None
        scaled.append(
            (
                contrast_label(contrast),
                estimate.low / small,
                estimate.mean / small,
                estimate.high / small,
            )
        )
    reach = max(1.0, *(abs(end) for _, low, _, high in scaled for end in (low, high)))

    def position(value: float) -> float:
        return round(50 + 46 * value / reach, 2)

    strips = tuple(
        Strip(
            label=name,
            low=position(low),
            mean=position(mean),
            high=position(high),
            zero=position(0.0),
            band=(position(-1.0), position(1.0)),
        )
        for name, low, mean, high in scaled
    )
    return strips, "Grey: less than each claim's smallest effect, which is the unit here."
