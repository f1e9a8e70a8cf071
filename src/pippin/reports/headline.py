# SPDX-License-Identifier: Apache-2.0
"""The verdict at the top of a page: one sentence, then the interval that supports it."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal

from pippin.evaluation.metric_registry import find_metric
from pippin.reports.cautions import cautions
from pippin.reports.report_source import Source
from pippin.reports.tables.results_table import ABSENT, Line
from pippin.studies.verdict import Comparison, Status

Tone = Literal["good", "mixed", "bad", "same", "undecided"]
MARKS: dict[Tone, str] = {
    "good": "Supported",
    "mixed": "Supported, with a trade-off",
    "bad": "Worse than the baseline",
    "same": "No difference that matters",
    "undecided": "Inconclusive",
}
LEADING: dict[Tone, tuple[Status, ...]] = {
    "good": ("better", "different"),
    "mixed": ("better", "different"),
    "bad": ("worse",),
    "same": ("same",),
}
"""Statuses that are counted where several arms are compared with the baseline: one better arm
among many does not support a claim about another arm."""
GROUPS: dict[Status, str] = {
    "better": "better",
    "worse": "worse",
    "different": "different",
    "same": "no difference that matters",
    "undecided": "undecided",
}


@dataclass(frozen=True, kw_only=True)
class Strip:
    """An interval on a horizontal axis; all positions in percent of its width."""

    label: str
    low: float
    mean: float
    high: float
    zero: float
    band: tuple[float, float] | None
    """Range of differences below the smallest effect that matters."""


@dataclass(frozen=True, kw_only=True)
class Headline:
    """The first section of a page."""

    mark: str
    sentence: str
    meaning: str
    """Description of the primary metric."""
    tone: Tone
    details: tuple[str, ...]
    strips: tuple[Strip, ...]
    left: str
    right: str
    """Labels of the ends of the strips."""
    companions: tuple[str, ...]
    """One text for each companion metric."""
    cautions: tuple[str, ...]
    band: str = ""
    """Meaning of the grey band of the strips; empty = the study's smallest effect."""


def headline(source: Source, lines: list[Line]) -> Headline:
    """The verdict of a study by its primary metric."""
    primary = next((line for line in lines if line.role == "primary"), None)
    comparisons = primary.comparisons if primary else ()
    sentence, tone = _sentence(source, comparisons)
    tradeoffs = _tradeoffs(lines, comparisons)
    if tone == "good" and tradeoffs:
        sentence, tone = f"{sentence} It is worse on {', '.join(tradeoffs)}.", "mixed"
    better = primary.better if primary else ""
    first = next(iter(source.declaration.arms))
    ends = ("", "")
    if better[:1] in "↓↑" and better:
        ends = ("better", "worse") if better.startswith("↓") else ("worse", "better")
    return Headline(
        mark=_mark(tone, comparisons, bool(_diverged(source, comparisons))),
        sentence=sentence,
        meaning=_meaning(source),
        tone=tone,
        details=tuple(_details(source, primary)) if primary else (),
        strips=_strips(comparisons, source.declaration.smallest_effect),
        left=f"{ends[0]} than {first}" if ends[0] else "lower",
        right=f"{ends[1]} than {first}" if ends[1] else "higher",
        companions=tuple(_companions(source, lines, {pair.reason for pair in comparisons})),
        cautions=tuple(cautions(source, _without_size(source))),
    )


def _diverged(source: Source, comparisons: tuple[Comparison, ...]) -> list[str]:
    """Arms that diverged in some seed; without any measured arm, arms of all diverged runs."""
    arms = [arm for pair in comparisons for arm in pair.diverged]
    if not comparisons:
        arms = [outcome.arm for outcome in source.results.outcomes if outcome.status == "diverged"]
    return [*dict.fromkeys(arms)]


def _mark(tone: Tone, comparisons: tuple[Comparison, ...], diverged: bool) -> str:
    if tone == "undecided" and diverged:
        return "No verdict"
    if not any(pair.difference for pair in comparisons):
        return "No verdict yet"
    if tone == "undecided" or len(comparisons) == 1:
        return MARKS[tone]
    leading = [
        pair.status for pair in comparisons if pair.difference and pair.status in LEADING[tone]
    ]
    suffix = ", with a trade-off" if tone == "mixed" else ""
    return f"{len(leading)} of {len(comparisons)} arms: {GROUPS[leading[0]]}{suffix}"


def _sentence(source: Source, comparisons: tuple[Comparison, ...]) -> tuple[str, Tone]:
    metric = find_metric(str(source.declaration.primary)).label
    diverged = _diverged(source, comparisons)
    if diverged and not any(pair.difference for pair in comparisons):
        return f"{' and '.join(diverged)} diverged: no verdict on {metric}.", "undecided"
    if not any(pair.difference for pair in comparisons):
        return f"{_capital(metric)} has been measured on fewer than two arms.", "undecided"
    if len(comparisons) == 1:
        return _sentence_of_two(comparisons[0], metric)
    groups = {
        words: [pair.second for pair in comparisons if pair.difference and pair.status == status]
        for status, words in GROUPS.items()
    }
    absent = [pair for pair in comparisons if not pair.difference]
    groups["diverged"] = [pair.second for pair in absent if pair.second in pair.diverged]
    groups["not measured"] = [pair.second for pair in absent if pair.second not in pair.diverged]
    if all(pair.difference and pair.difference.count == 1 for pair in comparisons):
        return (
            f"One training seed cannot rank {len(comparisons) + 1} arms by {metric}.",
            "undecided",
        )
    parts = [f"{words}: {', '.join(arms)}" for words, arms in groups.items() if arms]
    tones: dict[str, Tone] = {"better": "good", "worse": "bad", "different": "good"}
    tones |= {"no difference that matters": "same"}
    tone: Tone = next((tones[words] for words in tones if groups[words]), "undecided")
    return f"By {metric}, against {comparisons[0].first}: {'; '.join(parts)}.", tone


def _sentence_of_two(pair: Comparison, metric: str) -> tuple[str, Tone]:
    size = ", by more than the smallest effect that matters" if pair.matters else ""
    if pair.status == "better":
        return f"{pair.second} is better than {pair.first} on {metric}{size}.", "good"
    if pair.status == "worse":
        return f"{pair.second} is worse than {pair.first} on {metric}{size}.", "bad"
    if pair.status == "different":
        return f"{pair.second} differs from {pair.first} on {metric}{size}.", "good"
    if pair.status == "same":
        arms = f"{pair.second} and {pair.first}"
        return f"{arms} do not differ on {metric} as far as matters.", "same"
    count = pair.difference.count if pair.difference else 0
    seeds = "One training seed" if count == 1 else f"{count} training seeds"
    if pair.diverged:
        return (
            f"{' and '.join(pair.diverged)} diverged: no verdict on {metric}.",
            "undecided",
        )
    question = f"whether {pair.second} is better than {pair.first} on {metric}"
    return f"{seeds} cannot tell {question}.", "undecided"


def _meaning(source: Source) -> str:
    """``Excess drift (original size): how much ...``"""
    metric = find_metric(str(source.declaration.primary))
    return f"{_capital(metric.label)}: {metric.description}" if metric.description else ""


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _strips(comparisons: tuple[Comparison, ...], smallest: float | None) -> tuple[Strip, ...]:
    """All intervals on one common scale."""
    differences = [(pair, pair.difference) for pair in comparisons if pair.difference is not None]
    ends = [
        end
        for _, difference in differences
        for end in (difference.low, difference.high, difference.mean)
    ]
    reach = max((abs(end) for end in [*ends, smallest or 0.0] if end is not None), default=0.0)
    if not reach:
        return ()

    def position(value: float) -> float:
        return round(50 + 46 * value / reach, 2)

    return tuple(
        Strip(
            label=pair.second,
            low=position(difference.mean if difference.low is None else difference.low),
            mean=position(difference.mean),
            high=position(difference.mean if difference.high is None else difference.high),
            zero=position(0.0),
            band=(position(-smallest), position(smallest)) if smallest else None,
        )
        for pair, difference in differences
    )


def _details(source: Source, line: Line) -> list[str]:
    """The values of every arm, then each comparison."""
    unit = f" (unit: {line.unit})" if line.unit else ""
    return [
        f"{values_text(source, line)}{unit}; {line.direction}.",
        *_compared(line.comparisons),
    ]


def values_text(source: Source, line: Line) -> str:
    """Values of a metric for every arm and for real images."""
    arms = zip(source.declaration.arms, line.arms, strict=True)
    real = "" if line.real is ABSENT else f", real images {line.real.text}"
    return ", ".join(f"{arm} {cell.text}" for arm, cell in arms) + real


def claim_sentence(mark: str, verdict: str, claim: str) -> str:
    """The claim after its verdict, unless the mark before the sentence says the same."""
    return claim if mark == verdict else f"{verdict}: {claim}"


def declared_values(source: Source, lines: list[Line]) -> list[str]:
    """Values of the primary metric and its companions, without a verdict."""
    named = {source.declaration.primary, *source.declaration.companions}
    return [
        f"{line.metric.label}: {values_text(source, line)}."
        for line in lines
        if line.metric.name in named
    ]


def _compared(comparisons: Sequence[Comparison], known_reasons: Collection[str] = ()) -> list[str]:
    """The differences from the baseline, then the reasons of statuses not in ``known_reasons``."""
    minus, texts = "\N{MINUS SIGN}", []
    for basis in dict.fromkeys(pair.basis for pair in comparisons if pair.size):
        sizes = [
            f"{pair.second} {minus} {pair.first}: {pair.size}"
            for pair in comparisons
            if pair.size and pair.basis == basis
        ]
        texts.append(f"{', '.join(sizes)} ({basis}).")
    for reason in dict.fromkeys(pair.reason for pair in comparisons if pair.reason):
        arms = [pair.second for pair in comparisons if pair.reason == reason]
        whose = "" if len(arms) == len(comparisons) else f"{', '.join(arms)}: "
        if reason not in known_reasons:
            texts.append(f"{whose}{reason}")
    return texts


def _tradeoffs(lines: list[Line], comparisons: tuple[Comparison, ...]) -> list[str]:
    """Companions on which an arm is worse than the baseline and by the primary metric better."""
    leading = {pair.second for pair in comparisons if pair.status in LEADING["good"]}
    return [
        line.metric.label
        for line in lines
        if line.role == "companion"
        and any(pair.status == "worse" and pair.second in leading for pair in line.comparisons)
    ]


def _companions(source: Source, lines: list[Line], known_reasons: Collection[str]) -> list[str]:
    """One text for each companion: values, verdicts and the metric's description."""
    return [
        " ".join(
            [
                f"{line.metric.label}: {values_text(source, line)}; {line.direction}.",
                *_by_status(line.comparisons, known_reasons),
                line.metric.description,
            ]
        ).strip()
        for line in lines
        if line.role == "companion"
    ]


def _by_status(comparisons: Sequence[Comparison], known_reasons: Collection[str]) -> list[str]:
    """Verdicts on the arms, grouped by status."""
    texts = []
    for status in dict.fromkeys(pair.status for pair in comparisons if pair.difference):
        selected = [pair for pair in comparisons if pair.difference and pair.status == status]
        texts.append(f"{status.capitalize()}: {' '.join(_compared(selected, known_reasons))}")
    return texts


def _without_size(source: Source) -> list[str]:
    if source.declaration.smallest_effect is not None:
        return []
    return ["No smallest effect that matters was declared before the run."]
