# SPDX-License-Identifier: Apache-2.0
"""The table of two reports beside each other: what may be compared is, and the rest says why not.

Nothing here was declared before the runs, so nothing here is a verdict.
"""

from dataclasses import dataclass, replace

from pippin.study.digits import roughly
from pippin.study.glossary import HEADINGS, term
from pippin.study.results import Row
from pippin.study.side_by_side import Both, Pair, obstacles
from pippin.study.table import (
    ABSENT,
    ARROWS,
    Cell,
    Line,
    arm_cell,
    counted,
    series_of,
    split_by_protocol,
)
from pippin.study.verdict import Comparison, compare


@dataclass(frozen=True, kw_only=True)
class _Side:
    """One arm's rows of one metric."""

    arm: str
    rows: list[Row]


def compared_lines(both: Both) -> list[Line]:
    """One line for each metric that either side measured; ``unranked`` says what keeps a pair
    of numbers from being compared."""
    metrics = dict.fromkeys(row.metric for row in both.source.results.rows)
    lines = [line for metric in metrics for line in _line(both, metric)]
    groups = list(HEADINGS)
    return sorted(lines, key=lambda line: groups.index(line.term.group))


def _line(both: Both, metric: str) -> list[Line]:
    """The line of a metric; none where only references were measured."""
    found = [
        one for one in both.source.results.rows if (one.metric, one.subject) == (metric, "arm")
    ]
    if not found:
        return []
    cells: list[Cell] = []
    unranked: list[str] = []
    comparisons: list[Comparison] = []
    for pair in both.pairs:
        sides = [_side(found, arm) for arm in (pair.first, pair.second)]
        reasons = _reasons(sides)
        unranked += [f"{_spoken(pair)}: {'; '.join(reasons)}"] if reasons else []
        first, second = (series_of(both.source, side.arm, side.rows) for side in sides)
        (comparison,) = compare([first, second], better=found[0].better)
        comparisons += [] if reasons else [comparison]
        cells.append(arm_cell(both.source, first, sides[0].rows, None))
        cell = arm_cell(both.source, second, sides[1].rows, None if reasons else comparison)
        cells.append(_one_seed(cell, comparison, sides) if not reasons else cell)
    return [
        Line(
            metric=metric,
            term=term(metric),
            role="",
            better=ARROWS.get(found[0].better, "neither direction is better"),
            unit=found[0].unit,
            count="" if unranked else counted(found),
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
    """Why a pair's numbers may not be compared; empty where they may, or one is missing."""
    first, second = (side.rows for side in sides)
    return obstacles(first[0], second[0]) if first and second else []


def _spoken(pair: Pair) -> str:
    return f"{pair.first} and {pair.second}"


def _one_seed(cell: Cell, comparison: Comparison, sides: list[_Side]) -> Cell:
    """With one common training seed, what the samples' own intervals say."""
    found = comparison.difference
    rows = [side.rows[0] for side in sides if side.rows]
    if found is None or found.count > 1 or not found.mean or rows[0].fixed:
        return cell
    ends = [(row.low, row.high) for row in rows if row.low is not None and row.high is not None]
    if len(ends) < len(rows):
        return replace(cell, delta=f"Δ {roughly(found.mean)}: no interval")
    apart = max(low for low, _ in ends) > min(high for _, high in ends)
    words = "sample intervals apart" if apart else "sample intervals overlap"
    return replace(cell, delta=f"Δ {roughly(found.mean)}: {words}")
