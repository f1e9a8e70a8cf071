# SPDX-License-Identifier: Apache-2.0
"""The table of two reports side by side: comparable numbers get a difference, others a reason.

Nothing here was declared before the runs, so nothing here is a verdict.
"""

from dataclasses import dataclass, replace

from pippin.evaluation.metric import Metric
from pippin.evaluation.metric_registry import find_metric
from pippin.study.glossary import HEADINGS
from pippin.study.results import Row
from pippin.study.side_by_side import Pair, SourcePair, obstacles
from pippin.study.table import (
    ABSENT,
    Cell,
    Line,
    arm_cell,
    counted,
    delta_text,
    direction,
    series_of,
    split_by_protocol,
)
from pippin.study.verdict import Comparison, compare


@dataclass(frozen=True, kw_only=True)
class _Side:
    """One arm's rows of one metric."""

    arm: str
    rows: list[Row]


def compared_lines(both: SourcePair) -> list[Line]:
    """One line for each metric that either side measured; ``unranked`` says why a pair of numbers
    may not be compared."""
    metrics = dict.fromkeys(row.metric for row in both.source.results.rows)
    lines = [line for name in metrics for line in _line(both, find_metric(name))]
    groups = list(HEADINGS)
    return sorted(lines, key=lambda line: groups.index(line.metric.group))


def _line(both: SourcePair, metric: Metric) -> list[Line]:
    """The line of a metric; no line where only references were measured."""
    key = (metric.name, "arm")
    rows = [row for row in both.source.results.rows if (row.metric, row.subject) == key]
    if not rows:
        return []
    cells: list[Cell] = []
    unranked: list[str] = []
    comparisons: list[Comparison] = []
    for pair in both.pairs:
        sides = [_side(rows, arm) for arm in (pair.first, pair.second)]
        reasons = _reasons(sides)
        unranked += [f"{_spoken(pair)}: {'; '.join(reasons)}"] if reasons else []
        first, second = (series_of(both.source, side.arm, side.rows) for side in sides)
        (comparison,) = compare([first, second], better=rows[0].better)
        comparisons += [] if reasons else [comparison]
        cells.append(arm_cell(both.source, first, sides[0].rows, None))
        cell = arm_cell(both.source, second, sides[1].rows, None)
        text = "" if reasons else _difference(comparison, sides)
        cells.append(replace(cell, delta=text, tone="mute") if text else cell)
    return [
        Line(
            metric=metric,
            role="",
            better=direction(metric, rows[0].better),
            unit=rows[0].unit,
            count="" if unranked else counted(rows),
            arms=tuple(cells),
            untrained=ABSENT,
            real=ABSENT,
            unranked=tuple(unranked),
            comparisons=tuple(comparisons),
        )
    ]


def _side(rows: list[Row], arm: str) -> _Side:
    return _Side(arm=arm, rows=split_by_protocol([row for row in rows if row.arm == arm])[0])


def _reasons(sides: list[_Side]) -> list[str]:
    """Reasons not to compare a pair's numbers; empty if they are comparable or one is missing."""
    first, second = (side.rows for side in sides)
    return obstacles(first[0], second[0]) if first and second else []


def _spoken(pair: Pair) -> str:
    return f"{pair.first} and {pair.second}"


def _difference(comparison: Comparison, sides: list[_Side]) -> str:
    """B - A, and whether it lies beyond its interval, without a word that judges: no metric of
    such a page was declared before the runs."""
    difference = comparison.difference
    if difference is None:
        return ""
    rows = [side.rows[0] for side in sides if side.rows]
    if difference.low is None or difference.high is None:
        remark = _one_seed(rows)
    else:
        remark = (
            "within its interval"
            if difference.low <= 0 <= difference.high
            else "beyond its interval"
        )
    return delta_text(difference, remark, fixed=rows[0].fixed)


def _one_seed(rows: list[Row]) -> str:
    """Overlap of the intervals over samples, for a pair with one common training seed."""
    ends = [(row.low, row.high) for row in rows if row.low is not None and row.high is not None]
    if len(ends) < len(rows):
        return "no interval"
    apart = max(low for low, _ in ends) > min(high for _, high in ends)
    return "sample intervals apart" if apart else "sample intervals overlap"
