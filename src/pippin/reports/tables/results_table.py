# SPDX-License-Identifier: Apache-2.0
"""The table of results: one line for each metric, one cell for each arm and reference.

Only numbers of equal protocol (:attr:`Row.comparable`) share a line's cells and comparisons. The
number of samples is part of the protocol. Other numbers are listed under the line with the
settings that differ, and are not ranked.
"""

from collections import defaultdict
from statistics import fmean
from typing import Any

from pippin.evaluation.metric import Metric
from pippin.evaluation.metric_registry import find_metric
from pippin.reports.headings import HEADINGS
from pippin.reports.report_source import Source
from pippin.reports.tables.table_lines import (
    ABSENT,
    ARROWS,
    NEAREST,
    Cell,
    Line,
    Tone,
    quality_together,
)
from pippin.studies.declaration import Declaration
from pippin.studies.fairness import covered
from pippin.studies.results import OF_FILES, Row
from pippin.studies.statistics import Estimate, number, over_seeds, plus_minus, roughly, signed
from pippin.studies.verdict import Comparison, Series, Status, compare


def nearest_note(declaration: Declaration) -> str:
    """Note on metrics with a target; where claims decide, no word follows a difference."""
    note = "≈: the value nearest to real images' value is best; Δ is the difference of the values"
    if declaration.decided_by_claims:
        return f"{note}."
    return f"{note}, and the word after it compares their distances from real images' value."


def result_lines(source: Source) -> list[Line]:
    """One line for each metric: the primary one first, then companions, then group by group."""
    first = declared_first(source)
    rows: dict[str, list[Row]] = {name: [] for name in first}
    for row in source.results.rows:
        rows.setdefault(row.metric, []).append(row)
    lines = [
        _line(source, find_metric(name), metric_rows)
        for name, metric_rows in rows.items()
        if metric_rows
    ]
    groups = list(HEADINGS)
    if source.declaration.decided_by_claims:
        lines = quality_together(lines)
    return sorted(lines, key=lambda line: 0 if line.role else 1 + groups.index(line.metric.group))


def declared_first(source: Source) -> list[str]:
    """The declared metrics of a study: those of its claims, the primary one, companions."""
    declared = source.declaration
    names = (*declared.claimed_metrics, declared.primary, *declared.companions)
    return list(dict.fromkeys(name for name in names if name))


def _role(source: Source, metric: Metric) -> str:
    if source.declaration.decided_by_claims:
        return "exploratory" if metric.name in declared_first(source) else ""
    if metric.name == source.declaration.primary:
        return "primary"
    return "companion" if metric.name in source.declaration.companions else ""


def _line(source: Source, metric: Metric, rows: list[Row]) -> Line:
    declared = source.declaration
    main, others = split_by_protocol([row for row in rows if row.subject == "arm"])
    sample = (main or rows)[0]
    series = [series_of(source, arm, main) for arm in declared.arms]
    primary = metric.name == declared.primary
    target = real_mean(rows, sample, declared.paths) if metric.target else None
    comparisons = compare(
        series,
        better="neither" if metric.target else sample.better,
        smallest_effect=declared.smallest_effect if primary else None,
        target=target,
    )
    deltas: list[Comparison | None] = [None, *comparisons]
    return Line(
        metric=metric,
        role=_role(source, metric),
        better=NEAREST if target is not None else direction(metric, sample.better),
        unit=sample.unit,
        count=counted(main),
        arms=tuple(
            arm_cell(source, values, main, delta)
            for values, delta in zip(series, deltas, strict=True)
        ),
        untrained=_reference(rows, "untrained", sample, declared.paths),
        real=_reference(rows, "real", sample, declared.paths),
        unranked=tuple(_unranked(row, sample, declared.paths) for row in others),
        comparisons=tuple(comparisons),
    )


def direction(metric: Metric, better: str) -> str:
    """The better direction as an arrow and words; none for a metric with a target value."""
    return ARROWS.get("" if metric.target else better, "neither direction is better")


def split_by_protocol(rows: list[Row]) -> tuple[list[Row], list[Row]]:
    """The largest group of rows of equal protocol (of equally large ones the latest), and the
    others."""
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
        outcome.seed
        for outcome in source.results.outcomes
        if outcome.arm == arm and outcome.status == "diverged"
    }
    finished = {
        outcome.seed
        for outcome in source.results.outcomes
        if outcome.arm == arm and outcome.status == "finished"
    }
    return Series(
        arm=arm,
        values=values,
        diverged=tuple(sorted(diverged - set(values))),
        absent=tuple(sorted(finished - diverged - set(values))),
    )


def arm_cell(source: Source, series: Series, rows: list[Row], delta: Comparison | None) -> Cell:
    """The cell of one arm, with the difference to the baseline."""
    count = len(series.values)
    if not count:
        return _empty_cell(source, series)
    estimate = estimate_of(series.values, [row for row in rows if row.arm == series.arm])
    remarks = [] if count == len(source.declaration.seeds) else [f"{count} of {_seeds(source)}"]
    if series.diverged:
        remarks.append(f"diverged in {len(series.diverged)}, excluded")
    text, tone = _delta(delta, fixed=rows[0].fixed)
    if source.declaration.decided_by_claims and delta is not None and delta.difference is not None:
        # Claims decide: a difference of two arms gets no verdict.
        text, tone = delta_text(delta.difference, "exploratory", fixed=rows[0].fixed), "mute"
    return Cell(text=_text(estimate), remark="; ".join(remarks), delta=text, tone=tone)


def _empty_cell(source: Source, series: Series) -> Cell:
    if series.diverged:
        return Cell(text="diverged", remark=f"in {len(series.diverged)} seeds", tone="bad")
    statuses = {outcome.status for outcome in source.results.outcomes if outcome.arm == series.arm}
    if statuses == {"failed"}:
        return Cell(text="failed", remark="see Runs", tone="bad")
    return Cell(text="not measured", tone="mute")


def _seeds(source: Source) -> str:
    count = len(source.declaration.seeds)
    return f"{count} seed" if count == 1 else f"{count} seeds"


def estimate_of(values: dict[int, float], rows: list[Row]) -> Estimate:
    """The estimate over seeds; with one seed, or with equal values for all seeds (real images),
    the interval of one measurement."""
    estimate = over_seeds(values)
    if len(set(values.values())) > 1:
        return estimate
    row = next(row for row in rows if row.seed in values)
    return Estimate(
        mean=estimate.mean, low=row.low, high=row.high, count=1, over=row.interval_over
    )


def _text(estimate: Estimate) -> str:
    half = estimate.half_width
    if not half:  # no interval, or an interval of length 0
        return signed(estimate.mean, plus="")
    if estimate.over == "seeds":
        return plus_minus(estimate.mean, half)
    assert estimate.low is not None and estimate.high is not None
    low, high = (signed(end, half, plus="") for end in (estimate.low, estimate.high))
    return f"{signed(estimate.mean, half, plus='')} [{low},\N{NO-BREAK SPACE}{high}]"


def _delta(delta: Comparison | None, *, fixed: bool) -> tuple[str, Tone]:
    if delta is None or delta.difference is None:
        return "", "plain"
    remark = "undecided, one seed" if delta.difference.half_width is None else delta.status
    text = delta_text(delta.difference, remark, fixed=fixed)
    tones: dict[Status, Tone] = {"better": "good", "worse": "bad"}
    return text, tones.get(delta.status, "mute")


def delta_text(difference: Estimate, remark: str, *, fixed: bool) -> str:
    """A difference as text, with a remark unless the numbers have no randomness."""
    if fixed:
        return f"Δ {roughly(difference.mean)}" if difference.mean else "equal"
    if not difference.mean and not difference.half_width:
        return "Δ 0"
    half = difference.half_width
    size = (
        roughly(difference.mean) if half is None else plus_minus(difference.mean, half, plus="+")
    )
    return f"Δ {size}: {remark}"


def reference_rows(
    rows: list[Row], subject: str, main: Row, declared: tuple[str, ...]
) -> dict[str, dict[int, Row]]:
    """Arm -> training seed -> row of a reference.

    Real images have no sampler, so only the settings of the recipe must equal the main row's.
    """
    settings = _settings(main, declared)
    by_arm: dict[str, dict[int, Row]] = defaultdict(dict)
    for row in rows:
        matches = row.subject == subject and row.value is not None
        if matches and _settings(row, declared) == settings:
            by_arm[row.arm][row.seed] = row
    return by_arm


def real_mean(rows: list[Row], main: Row, declared: tuple[str, ...]) -> float | None:
    """The mean on real images under the settings of ``main``; None = not measured."""
    by_arm = reference_rows(rows, "real", main, declared)
    values = [value for ours in by_arm.values() for value in values_by_seed(ours).values()]
    return fmean(values) if values else None


def _reference(rows: list[Row], subject: str, main: Row, declared: tuple[str, ...]) -> Cell:
    """One number if all arms have the same; otherwise one for each arm."""
    by_arm = reference_rows(rows, subject, main, declared)
    texts = {
        arm: _text(estimate_of(values_by_seed(arm_rows), list(arm_rows.values())))
        for arm, arm_rows in by_arm.items()
    }
    if not texts:
        return ABSENT
    counts = sorted({row.n for arm_rows in by_arm.values() for row in arm_rows.values()})
    remark = "" if counts == [main.n] else f"n = {', '.join(map(str, counts))}"
    if len(set(texts.values())) == 1:
        return Cell(text=next(iter(texts.values())), remark=remark)
    return Cell(text="\n".join(f"{arm}: {text}" for arm, text in texts.items()), remark=remark)


def _settings(row: Row, declared: tuple[str, ...]) -> dict[str, Any]:
    """The recipe's settings that must be equal for all arms and seeds."""
    differing = {*declared, "seed"}
    below = ("measure.", *(f"{path}." for path in differing))
    return {
        path: value
        for path, value in row.protocol.items()
        if path not in differing and not path.startswith(below)
    }


def values_by_seed(rows: dict[int, Row]) -> dict[int, float]:
    """Training seed -> value, of the rows that have one."""
    return {seed: row.value for seed, row in rows.items() if row.value is not None}


def counted(rows: list[Row]) -> str:
    """The number of samples of each number, and the kind of interval of a single seed."""
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
    differences = [
        f"{path} = {row.protocol.get(path)!r}, not {main.protocol.get(path)!r}"
        for path in paths
        if row.protocol.get(path) != main.protocol.get(path) and path not in OF_FILES
    ]
    value = "diverged" if row.value is None else number(row.value)
    return f"{row.arm}, seed {row.seed}: {value} ({'; '.join(differences) or 'another protocol'})"
