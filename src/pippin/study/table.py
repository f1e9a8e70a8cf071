# SPDX-License-Identifier: Apache-2.0
"""The table of results: one line for each metric, one cell for each arm and reference.

Only numbers of equal protocol (:attr:`Row.comparable`) share a line's cells and its comparisons.
How many samples were asked for is part of the protocol. The others are listed under the line,
with what differs, and are not ranked.
"""

from collections import defaultdict
from statistics import fmean
from typing import Any

from pippin.study.digits import number, plus_minus, roughly, signed
from pippin.study.fairness import covered
from pippin.study.glossary import HEADINGS, Term, term
from pippin.study.lines import ABSENT, Cell, Line, Tone, quality_together
from pippin.study.results import OF_FILES, Row
from pippin.study.source import Source
from pippin.study.statistics import Estimate, over_seeds
from pippin.study.verdict import Comparison, Series, Status, compare

ARROWS = {"lower": "↓ lower is better", "higher": "↑ higher is better"}
NEAREST = "≈ nearest to real pictures is better"
NEAREST_NOTE = (
    "≈: the value nearest to real pictures' is best; Δ is the difference of the values, and the "
    "word behind it compares their distances from that one."
)
SIGNS = tuple(one[0] for one in (*ARROWS.values(), NEAREST))
"""The signs that say which way is better."""


def result_lines(source: Source) -> list[Line]:
    """All metrics: the primary one first, then its companions, then group by group."""
    first = declared_first(source)
    rows: dict[str, list[Row]] = {name: [] for name in first}
    for row in source.results.rows:
        rows.setdefault(row.metric, []).append(row)
    lines = [_line(source, metric, found) for metric, found in rows.items() if found]
    groups = list(HEADINGS)
    if source.declaration.contrasts:
        lines = quality_together(lines)
    return sorted(lines, key=lambda line: 0 if line.role else 1 + groups.index(line.term.group))


def declared_first(source: Source) -> list[str]:
    """The metrics that a study declared: those of its contrasts, the primary one, companions."""
    declared = source.declaration
    of_contrasts = (metric for one in declared.contrasts for metric in one.metrics)
    names = (*of_contrasts, declared.primary, *declared.companions)
    return list(dict.fromkeys(name for name in names if name))


def _role(source: Source, metric: str) -> str:
    if source.declaration.contrasts:
        return "exploratory" if metric in declared_first(source) else ""
    if metric == source.declaration.primary:
        return "primary"
    return "companion" if metric in source.declaration.companions else ""


def _line(source: Source, metric: str, rows: list[Row]) -> Line:
    declared = source.declaration
    main, others = split_by_protocol([row for row in rows if row.subject == "arm"])
    sample = (main or rows)[0]
    series = [series_of(source, arm, main) for arm in declared.arms]
    primary = metric == declared.primary
    known = term(metric)
    target = real_mean(rows, sample, declared.paths) if known.target else None
    comparisons = compare(
        series,
        better="neither" if known.target else sample.better,
        smallest_effect=declared.smallest_effect if primary else None,
        target=target,
    )
    deltas: list[Comparison | None] = [None, *comparisons]
    return Line(
        metric=metric,
        term=known,
        role=_role(source, metric),
        better=NEAREST if target is not None else direction(known, sample.better),
        unit=sample.unit,
        count=counted(main),
        arms=tuple(
            arm_cell(source, one, main, delta) for one, delta in zip(series, deltas, strict=True)
        ),
        untrained=_reference(rows, "untrained", sample, declared.paths),
        real=_reference(rows, "real", sample, declared.paths),
        unranked=tuple(_unranked(row, sample, declared.paths) for row in others),
        comparisons=tuple(comparisons),
    )


def direction(known: Term, better: str) -> str:
    """Which way is better, in words behind a sign; a target is none."""
    return ARROWS.get("" if known.target else better, "neither direction is better")


def split_by_protocol(rows: list[Row]) -> tuple[list[Row], list[Row]]:
    """The largest group of equal protocol (the latest of those as large), and the others."""
    groups: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        groups[row.comparable].append(row)
    main = max(reversed(groups.values()), key=len, default=[])
    return main, [row for row in rows if row.comparable != main[0].comparable]


def series_of(source: Source, arm: str, rows: list[Row]) -> Series:
    """An arm's values by training seed, from rows of equal protocol."""
    values = {row.seed: row.value for row in rows if row.arm == arm and row.value is not None}
    diverged = {row.seed for row in rows if row.arm == arm and row.diverged}
    diverged |= {
        one.seed for one in source.results.outcomes if one.arm == arm and one.status == "diverged"
    }
    finished = {
        one.seed for one in source.results.outcomes if one.arm == arm and one.status == "finished"
    }
    return Series(
        arm=arm,
        values=values,
        diverged=tuple(sorted(diverged - set(values))),
        absent=tuple(sorted(finished - diverged - set(values))),
    )


def arm_cell(source: Source, series: Series, rows: list[Row], delta: Comparison | None) -> Cell:
    """What the table says of one arm, with the difference to what it is compared with."""
    count = len(series.values)
    if not count:
        return _empty_cell(source, series)
    found = _estimate(series.values, [row for row in rows if row.arm == series.arm])
    remarks = [] if count == len(source.declaration.seeds) else [f"{count} of {_seeds(source)}"]
    if series.diverged:
        remarks.append(f"diverged in {len(series.diverged)}, left out")
    text, tone = _delta(delta, fixed=rows[0].fixed)
    if source.declaration.contrasts and delta is not None and delta.difference is not None:
        # Contrasts decide: a difference of two arms gets no word of its own.
        text, tone = delta_text(delta.difference, "exploratory", fixed=rows[0].fixed), "mute"
    return Cell(text=_text(found), remark="; ".join(remarks), delta=text, tone=tone)


def _empty_cell(source: Source, series: Series) -> Cell:
    if series.diverged:
        return Cell(text="diverged", remark=f"in {len(series.diverged)} seeds", tone="bad")
    statuses = {one.status for one in source.results.outcomes if one.arm == series.arm}
    if statuses == {"failed"}:
        return Cell(text="failed", remark="see Runs", tone="bad")
    return Cell(text="not measured", tone="mute")


def _seeds(source: Source) -> str:
    count = len(source.declaration.seeds)
    return f"{count} seed" if count == 1 else f"{count} seeds"


def _estimate(values: dict[int, float], rows: list[Row]) -> Estimate:
    """Over seeds; with one seed, or where the training seed changes nothing (real pictures), the
    interval of the one measurement."""
    found = over_seeds(values)
    if len(set(values.values())) > 1:
        return found
    row = next(row for row in rows if row.seed in values)
    return Estimate(mean=found.mean, low=row.low, high=row.high, count=1, over=row.interval_over)


def _text(found: Estimate) -> str:
    half = found.half_width
    if not half:  # no interval, or one of no length
        return signed(found.mean, plus="")
    if found.over == "seeds":
        return plus_minus(found.mean, half)
    assert found.low is not None and found.high is not None
    low, high = (signed(end, half, plus="") for end in (found.low, found.high))
    return f"{signed(found.mean, half, plus='')} [{low},\N{NO-BREAK SPACE}{high}]"


def _delta(delta: Comparison | None, *, fixed: bool) -> tuple[str, Tone]:
    if delta is None or delta.difference is None:
        return "", "plain"
    remark = "undecided, one seed" if delta.difference.half_width is None else delta.status
    text = delta_text(delta.difference, remark, fixed=fixed)
    tones: dict[Status, Tone] = {"better": "good", "worse": "bad"}
    return text, tones.get(delta.status, "mute")


def delta_text(found: Estimate, remark: str, *, fixed: bool) -> str:
    """A difference, with a remark where there is one and a draw could have made another."""
    if fixed:
        return f"Δ {roughly(found.mean)}" if found.mean else "equal"
    if not found.mean and not found.half_width:
        return "Δ 0"
    half = found.half_width
    size = roughly(found.mean) if half is None else plus_minus(found.mean, half, plus="+")
    return f"Δ {size}: {remark}"


def _references(
    rows: list[Row], subject: str, main: Row, declared: tuple[str, ...]
) -> dict[str, dict[int, Row]]:
    """Arm -> training seed -> row of a reference.

    Real pictures have no sampler, so only the settings of the recipe have to be the main row's.
    """
    settings = _settings(main, declared)
    by_arm: dict[str, dict[int, Row]] = defaultdict(dict)
    for row in rows:
        known = row.subject == subject and row.value is not None
        if known and _settings(row, declared) == settings:
            by_arm[row.arm][row.seed] = row
    return by_arm


def real_mean(rows: list[Row], main: Row, declared: tuple[str, ...]) -> float | None:
    """The mean of what real images show under the settings of ``main``; None = not measured."""
    by_arm = _references(rows, "real", main, declared)
    values = [value for ours in by_arm.values() for value in _values(ours).values()]
    return fmean(values) if values else None


def _reference(rows: list[Row], subject: str, main: Row, declared: tuple[str, ...]) -> Cell:
    """One number where all arms have the same; otherwise one for each arm."""
    by_arm = _references(rows, subject, main, declared)
    texts = {
        arm: _text(_estimate(_values(ours), list(ours.values()))) for arm, ours in by_arm.items()
    }
    if not texts:
        return ABSENT
    counts = sorted({row.n for ours in by_arm.values() for row in ours.values()})
    remark = "" if counts == [main.n] else f"n = {', '.join(map(str, counts))}"
    if len(set(texts.values())) == 1:
        return Cell(text=next(iter(texts.values())), remark=remark)
    return Cell(text="\n".join(f"{arm}: {text}" for arm, text in texts.items()), remark=remark)


def _settings(row: Row, declared: tuple[str, ...]) -> dict[str, Any]:
    """The recipe's settings that no arm or seed may differ in."""
    return {
        path: value
        for path, value in row.protocol.items()
        if not path.startswith("measure.") and not covered(path, (*declared, "seed"))
    }


def _values(rows: dict[int, Row]) -> dict[int, float]:
    return {seed: row.value for seed, row in rows.items() if row.value is not None}


def counted(rows: list[Row]) -> str:
    """How many samples each number is from, and over what a single seed's interval is."""
    counts = sorted({row.n for row in rows if not row.diverged})
    if not counts or rows[0].fixed:
        return ""
    text = f"n = {counts[0]}" if len(counts) == 1 else f"n = {counts[0]} to {counts[-1]}"
    if len({row.seed for row in rows}) > 1:
        return text
    over = rows[0].interval_over
    return f"{text}; one seed, " + ("no interval" if over == "none" else f"interval over {over}")


def _unranked(row: Row, main: Row, declared: tuple[str, ...]) -> str:
    paths = [p for p in {**row.protocol, **main.protocol} if not covered(p, (*declared, "seed"))]
    found = [
        f"{path} = {row.protocol.get(path)!r}, not {main.protocol.get(path)!r}"
        for path in paths
        if row.protocol.get(path) != main.protocol.get(path) and path not in OF_FILES
    ]
    value = "diverged" if row.value is None else number(row.value)
    return f"{row.arm}, seed {row.seed}: {value} ({'; '.join(found) or 'another protocol'})"
