# SPDX-License-Identifier: Apache-2.0
"""The verdict as a reader meets it: one sentence, then the interval it rests on."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal

from pippin.study.cautions import cautions
from pippin.study.glossary import term
from pippin.study.source import Source
from pippin.study.table import ABSENT, SIGNS, Line
from pippin.study.verdict import Comparison, Status

Tone = Literal["good", "mixed", "bad", "same", "undecided"]
MARKS: dict[Tone, str] = {
    "good": "Supported",
    "mixed": "Supported, at a price",
    "bad": "Supported, the other way",
    "same": "No difference that matters",
    "undecided": "Undecided at this scale",
}
LEADING: dict[Tone, tuple[Status, ...]] = {
    "good": ("better", "different"),
    "mixed": ("better", "different"),
    "bad": ("worse",),
    "same": ("same",),
}
"""What is counted where several arms are compared with the first: one good arm among many does not
support a claim that another arm carries."""
GROUPS: dict[Status, str] = {
    "better": "better",
    "worse": "worse",
    "different": "different",
    "same": "no difference that matters",
    "undecided": "undecided",
}


@dataclass(frozen=True, kw_only=True)
class Strip:
    """An interval drawn on a line; all positions in percent of its width."""

    label: str
    low: float
    mean: float
    high: float
    zero: float
    band: tuple[float, float] | None
    """Where a difference is smaller than the smallest effect that matters."""


@dataclass(frozen=True, kw_only=True)
class Headline:
    """What stands first on the page."""

    mark: str
    sentence: str
    meaning: str
    """What the primary metric is, in words."""
    tone: Tone
    details: tuple[str, ...]
    strips: tuple[Strip, ...]
    left: str
    right: str
    """What the ends of the strips mean."""
    beside: tuple[str, ...]
    """What the companions say."""
    cautions: tuple[str, ...]
    band: str = ""
    """What the grey band of the strips is; empty = the study's smallest effect."""


def headline(source: Source, lines: list[Line]) -> Headline:
    """The verdict of a study by its primary metric."""
    primary = next((line for line in lines if line.role == "primary"), None)
    comparisons = primary.comparisons if primary else ()
    sentence, tone = _sentence(source, comparisons)
    prices = _prices(lines, comparisons)
    if tone == "good" and prices:
        sentence, tone = f"{sentence} It is worse on {', '.join(prices)}.", "mixed"
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
        beside=tuple(_beside(source, lines, {one.reason for one in comparisons})),
        cautions=tuple(cautions(source, _without_size(source))),
    )


def _diverged(source: Source, comparisons: tuple[Comparison, ...]) -> list[str]:
    """Arms that diverged in some seed; where no arm has a number, all that ended so."""
    arms = [arm for one in comparisons for arm in one.diverged]
    if not comparisons:
        arms = [one.arm for one in source.results.outcomes if one.status == "diverged"]
    return [*dict.fromkeys(arms)]


def _mark(tone: Tone, comparisons: tuple[Comparison, ...], diverged: bool) -> str:
    if tone == "undecided" and diverged:
        return "No verdict"
    if not any(one.difference for one in comparisons):
        return "No verdict yet"
    if tone == "undecided" or len(comparisons) == 1:
        return MARKS[tone]
    leading = [one.status for one in comparisons if one.difference and one.status in LEADING[tone]]
    price = ", at a price" if tone == "mixed" else ""
    return f"{len(leading)} of {len(comparisons)} arms: {GROUPS[leading[0]]}{price}"


def _sentence(source: Source, comparisons: tuple[Comparison, ...]) -> tuple[str, Tone]:
    metric = term(str(source.declaration.primary)).label
    diverged = _diverged(source, comparisons)
    if diverged and not any(one.difference for one in comparisons):
        return f"{' and '.join(diverged)} diverged: no verdict on {metric}.", "undecided"
    if not any(one.difference for one in comparisons):
        return f"{_capital(metric)} has been measured on fewer than two arms.", "undecided"
    if len(comparisons) == 1:
        return _sentence_of_two(comparisons[0], metric)
    groups = {
        words: [one.second for one in comparisons if one.difference and one.status == status]
        for status, words in GROUPS.items()
    }
    absent = [one for one in comparisons if not one.difference]
    groups["diverged"] = [one.second for one in absent if one.second in one.diverged]
    groups["not measured"] = [one.second for one in absent if one.second not in one.diverged]
    if all(one.difference and one.difference.count == 1 for one in comparisons):
        return (
            f"One training seed cannot rank {len(comparisons) + 1} arms by {metric}.",
            "undecided",
        )
    parts = [f"{words}: {', '.join(arms)}" for words, arms in groups.items() if arms]
    tones: dict[str, Tone] = {"better": "good", "worse": "bad", "different": "good"}
    tones |= {"no difference that matters": "same"}
    tone: Tone = next((tones[words] for words in tones if groups[words]), "undecided")
    return f"By {metric}, against {comparisons[0].first}: {'; '.join(parts)}.", tone


def _sentence_of_two(one: Comparison, metric: str) -> tuple[str, Tone]:
    size = ", by more than the smallest effect that matters" if one.matters else ""
    if one.status == "better":
        return f"{one.second} is better than {one.first} on {metric}{size}.", "good"
    if one.status == "worse":
        return f"{one.second} is worse than {one.first} on {metric}{size}.", "bad"
    if one.status == "different":
        return f"{one.second} differs from {one.first} on {metric}{size}.", "good"
    if one.status == "same":
        return f"{one.second} and {one.first} do not differ on {metric} as far as matters.", "same"
    count = one.difference.count if one.difference else 0
    seeds = "One training seed" if count == 1 else f"{count} training seeds"
    if one.diverged:
        return f"{' and '.join(one.diverged)} diverged: no verdict on {metric}.", "undecided"
    question = f"whether {one.second} is better than {one.first} on {metric}"
    return f"{seeds} cannot tell {question}.", "undecided"


def _meaning(source: Source) -> str:
    """``Excess drift (original size): how much ...``"""
    known = term(str(source.declaration.primary))
    return f"{_capital(known.label)}: {known.text}" if known.text else ""


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _strips(comparisons: tuple[Comparison, ...], smallest: float | None) -> tuple[Strip, ...]:
    """All on one scale, so that they can be compared by eye."""
    drawn = [(one, one.difference) for one in comparisons if one.difference is not None]
    ends = [end for _, found in drawn for end in (found.low, found.high, found.mean)]
    reach = max((abs(end) for end in [*ends, smallest or 0.0] if end is not None), default=0.0)
    if not reach:
        return ()

    def place(value: float) -> float:
        return round(50 + 46 * value / reach, 2)

    return tuple(
        Strip(
            label=one.second,
            low=place(found.mean if found.low is None else found.low),
            mean=place(found.mean),
            high=place(found.mean if found.high is None else found.high),
            zero=place(0.0),
            band=(place(-smallest), place(smallest)) if smallest else None,
        )
        for one, found in drawn
    )


def _details(source: Source, line: Line) -> list[str]:
    """The numbers of every arm, then each comparison."""
    unit = f" (unit: {line.unit})" if line.unit else ""
    return [
        f"{values_text(source, line)}{unit}; {_direction(line)}.",
        *_compared(line.comparisons),
    ]


def _direction(line: Line) -> str:
    """Which way is better, without the sign."""
    return line.better.lstrip(f"{''.join(SIGNS)} ")


def values_text(source: Source, line: Line) -> str:
    """The metric of every arm and of real images."""
    arms = zip(source.declaration.arms, line.arms, strict=True)
    real = "" if line.real is ABSENT else f", real pictures {line.real.text}"
    return ", ".join(f"{arm} {cell.text}" for arm, cell in arms) + real


def _compared(comparisons: Sequence[Comparison], said: Collection[str] = ()) -> list[str]:
    """The differences from the first arm, then each reason of a status that was not said yet."""
    minus, texts = "\N{MINUS SIGN}", []
    for basis in dict.fromkeys(one.basis for one in comparisons if one.size):
        sizes = [
            f"{one.second} {minus} {one.first}: {one.size}"
            for one in comparisons
            if one.size and one.basis == basis
        ]
        texts.append(f"{', '.join(sizes)} ({basis}).")
    for reason in dict.fromkeys(one.reason for one in comparisons if one.reason):
        arms = [one.second for one in comparisons if one.reason == reason]
        whose = "" if len(arms) == len(comparisons) else f"{', '.join(arms)}: "
        if reason not in said:
            texts.append(f"{whose}{reason}")
    return texts


def _prices(lines: list[Line], comparisons: tuple[Comparison, ...]) -> list[str]:
    """The companions on which an arm that leads by the primary metric is worse than the first."""
    leading = {one.second for one in comparisons if one.status in LEADING["good"]}
    return [
        line.term.label
        for line in lines
        if line.role == "companion"
        and any(one.status == "worse" and one.second in leading for one in line.comparisons)
    ]


def _beside(source: Source, lines: list[Line], said: Collection[str]) -> list[str]:
    """One text for each companion: values, what may be claimed of them, what it is."""
    return [
        " ".join(
            [
                f"{line.term.label}: {values_text(source, line)}; {_direction(line)}.",
                *_by_status(line.comparisons, said),
                line.term.text,
            ]
        ).strip()
        for line in lines
        if line.role == "companion"
    ]


def _by_status(comparisons: Sequence[Comparison], said: Collection[str]) -> list[str]:
    """What may be claimed of the arms, those of one status together."""
    texts = []
    for status in dict.fromkeys(one.status for one in comparisons if one.difference):
        found = [one for one in comparisons if one.difference and one.status == status]
        texts.append(f"{status.capitalize()}: {' '.join(_compared(found, said))}")
    return texts


def _without_size(source: Source) -> list[str]:
    if source.declaration.smallest_effect is not None:
        return []
    return ["No smallest effect that matters was declared before the run."]
