# SPDX-License-Identifier: Apache-2.0
"""The verdict of a study that declared contrasts: what stands first on its page."""

from collections.abc import Sequence

from pippin.study.cautions import cautions
from pippin.study.contrast_source import evaluate_contrasts
from pippin.study.contrast_table import estimate_text
from pippin.study.contrast_verdict import ContrastResult, Verdict
from pippin.study.headline import Headline, Strip, Tone, headline, values_text
from pippin.study.source import Source
from pippin.study.table import Line

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
    """The verdict of a study: by its contrasts if it declared any, else by its primary metric."""
    if not source.declaration.contrasts:
        return headline(source, lines)
    return contrast_headline(source, lines, evaluate_contrasts(source))


def contrast_headline(
    source: Source, lines: list[Line], results: Sequence[ContrastResult]
) -> Headline:
    """One sentence for each primary claim, and the intervals of claims in one unit."""
    primary = [one for one in results if one.contrast.role == "primary"]
    strips, band = _strips(primary)
    said = [f"{MARKS[one.verdict]}: {one.contrast.claim}" for one in _ordered(primary)]
    return Headline(
        mark=_mark(primary),
        sentence=" ".join(said) or "No primary contrast was declared; nothing is decided.",
        meaning="",
        tone=_TONES.get(frozenset(one.verdict for one in primary), "mixed" if primary else "same"),
        details=tuple(_detail(one) for one in primary),
        strips=strips,
        left="negative",
        right="positive",
        beside=tuple(_exploratory(source, lines)),
        cautions=tuple(cautions(source, _without_size(results))),
        band=band,
    )


def _ordered(results: Sequence[ContrastResult]) -> list[ContrastResult]:
    return [one for verdict in ORDER for one in results if one.verdict == verdict]


def _mark(primary: Sequence[ContrastResult]) -> str:
    if not primary:
        return "Exploratory"
    if not any(one.estimate for one in primary):
        return "No verdict yet"
    verdicts = {one.verdict for one in primary}
    if len(verdicts) == 1:
        return MARKS[primary[0].verdict]
    counts = ((sum(one.verdict == verdict for one in primary), verdict) for verdict in ORDER)
    return ", ".join(f"{count} {verdict}" for count, verdict in counts if count)


def _detail(result: ContrastResult) -> str:
    found = f"{result.contrast.name}: {estimate_text(result.estimate)}, {result.verdict}."
    return f"{found} {result.reason}".strip()


def _exploratory(source: Source, lines: list[Line]) -> list[str]:
    """The metrics declared beside the contrasts, without any verdict."""
    named = {source.declaration.primary, *source.declaration.companions}
    return [
        f"{line.term.label}: {values_text(source, line)}."
        for line in lines
        if line.metric in named
    ]


def _without_size(results: Sequence[ContrastResult]) -> list[str]:
    names = [
        one.contrast.name
        for one in results
        if one.contrast.role == "primary" and one.contrast.smallest_effect is None
    ]
    if not names:
        return []
    return [
        f"No smallest effect that matters was declared before the run for: {', '.join(names)}."
    ]


def _strips(primary: Sequence[ContrastResult]) -> tuple[tuple[Strip, ...], str]:
    """Each interval in units of its smallest effect, so that claims of several metrics share a
    scale; none where a claim has no smallest effect."""
    drawn = [
        (one.contrast, one.estimate) for one in primary if one.estimate and one.estimate.half_width
    ]
    if not drawn or any(contrast.smallest_effect is None for contrast, _ in drawn):
        return (), ""
    scaled = []
    for contrast, found in drawn:
        small = contrast.smallest_effect or 1.0
        assert found.low is not None and found.high is not None
        scaled.append((contrast.name, found.low / small, found.mean / small, found.high / small))
    reach = max(1.0, *(abs(end) for _, low, _, high in scaled for end in (low, high)))

    def place(value: float) -> float:
        return round(50 + 46 * value / reach, 2)

    strips = tuple(
        Strip(
            label=name,
            low=place(low),
            mean=place(mean),
            high=place(high),
            zero=place(0.0),
            band=(place(-1.0), place(1.0)),
        )
        for name, low, mean, high in scaled
    )
    return strips, "Grey: less than each claim's smallest effect, which is the unit here."
