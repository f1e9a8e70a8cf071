# SPDX-License-Identifier: Apache-2.0
"""Two studies, or two runs, as one source with paired arms, and the table of their numbers.

Numbers are compared only if they were measured in the same way. Differences in training are the
purpose of such a page, which lists them; differences in *measurement* make numbers incomparable:
the table states the reason in place of a difference.

Nothing here was declared before the runs, so nothing here is a verdict.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pippin.config import ConfigError
from pippin.evaluation.metric import Metric
from pippin.evaluation.metric_registry import find_metric
from pippin.reports.headings import HEADINGS
from pippin.reports.report_data import DisplayedSource, open_source
from pippin.reports.report_source import Run, Source
from pippin.reports.tables.results_table import (
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
from pippin.studies.fairness import covered
from pippin.studies.results import Results, Row
from pippin.studies.verdict import Comparison, compare

SIDES = ("A", "B")
MEASURING = ("data", "autoencoder", "sampling", "evaluation", "measure")
"""Sections of a protocol that define the measurement: images, sampling, decoding, evaluation."""
_OF_MODEL = ("measure.model",)
"""Entries about the measured model, which depend on settings that the page shows."""


@dataclass(frozen=True, kw_only=True)
class Pair:
    """An arm of A and the arm of B that it is compared with, by their names on the page."""

    first: str
    second: str


@dataclass(frozen=True, kw_only=True)
class SourcePair:
    """Two sources combined into one."""

    names: tuple[str, str]
    """Names of the two folders."""
    source: Source
    """The arms of all pairs, each pair's A before its B; it has no primary metric."""
    pairs: tuple[Pair, ...]
    unpaired: tuple[str, ...]
    """Arms that exist in only one of the studies."""
    are_runs: bool


def open_pair(first: Path, second: Path) -> SourcePair:
    """Read two folders of one kind.

    Raises:
        ConfigError: a folder is neither a study nor a run; one is a study and the other a run;
            both are the same; or two studies have no arm of the same name.
    """
    if first.resolve() == second.resolve():
        raise ConfigError(f"both folders are {first}; give two different ones")
    sources = open_source(first), open_source(second)
    kinds = ["study" if source.is_study else "run" for source in sources]
    if kinds[0] != kinds[1]:
        raise ConfigError(
            f"{first} is a {kinds[0]} and {second} a {kinds[1]}: compare two studies or two "
            "runs (a study's runs lie in its folder runs/)"
        )
    arms = [_arms(sources, shared) for shared in _shared(sources, first, second)]
    all_arms = {arm for source in sources for arm in source.declaration.arms}
    paired = {arm for pair in arms for arm in pair}
    names = _names(first, second)
    pairs = tuple(Pair(first=f"A: {a}", second=f"B: {b}") for a, b in arms)
    if not sources[0].is_study:
        pairs = (Pair(first=f"A: {names[0]}", second=f"B: {names[1]}"),)
    return SourcePair(
        names=names,
        source=_joined(sources, arms, pairs, names),
        pairs=pairs,
        unpaired=tuple(sorted(all_arms - paired)),
        are_runs=not sources[0].is_study,
    )


def obstacles(first: Row, second: Row) -> list[str]:
    """Differences between the measurements of two numbers, which may then not be compared."""
    a, b = first.protocol, second.protocol
    reasons = []
    for path in dict.fromkeys((*a, *b)):
        if (
            covered(path, MEASURING)
            and not covered(path, _OF_MODEL)
            and a.get(path) != b.get(path)
        ):
            reasons.append(f"{path} = {_value_text(a, path)} in A, {_value_text(b, path)} in B")
    return reasons


def _value_text(protocol: dict[str, Any], path: str) -> str:
    return repr(protocol[path]) if path in protocol else "absent"


def _shared(sources: tuple[Source, Source], first: Path, second: Path) -> list[str]:
    """Names of the compared arms; [""] for two runs, which are compared whatever their names."""
    first_arms, second_arms = (list(source.declaration.arms) for source in sources)
    if not sources[0].is_study:
        return [""]
    shared = [arm for arm in first_arms if arm in second_arms]
    if not shared:
        raise ConfigError(
            f"{first} has the arms {', '.join(first_arms)} and {second} has "
            f"{', '.join(second_arms)}: no arm has the same name in both; give two studies with "
            "common arms"
        )
    return shared


def _arms(sources: tuple[Source, Source], shared: str) -> tuple[str, str]:
    first, second = (shared or next(iter(source.declaration.arms)) for source in sources)
    return first, second


def _names(first: Path, second: Path) -> tuple[str, str]:
    """The folders' names, with parent folders where the names are equal."""
    a, b = first.resolve(), second.resolve()
    depth = 1
    while a.parts[-depth:] == b.parts[-depth:]:
        depth += 1
    return "/".join(a.parts[-depth:]), "/".join(b.parts[-depth:])


def _joined(
    sources: tuple[Source, Source],
    arms: list[tuple[str, str]],
    pairs: tuple[Pair, ...],
    names: tuple[str, str],
) -> Source:
    """One source with the arms of both under the names of the pairs.

    Two runs are placed at one seed, because they are compared whatever their training seeds are;
    the page lists the seeds among the settings.
    """
    labels = [
        {
            arm_pair[side]: (pair.first, pair.second)[side]
            for arm_pair, pair in zip(arms, pairs, strict=True)
        }
        for side in (0, 1)
    ]
    seeds = [source.declaration.seeds for source in sources]
    seed_map = {seeds[1][0]: seeds[0][0]} if not sources[0].is_study else {}
    parts = [
        _renamed(source, labels_of_side, seed)
        for source, labels_of_side, seed in zip(sources, labels, ({}, seed_map), strict=True)
    ]
    order = [name for pair in pairs for name in (pair.first, pair.second)]
    recipes = {
        label: source.declaration.arms[arm]
        for source, labels_of_side in zip(sources, labels, strict=True)
        for arm, label in labels_of_side.items()
    }
    declaration = replace(
        sources[0].declaration,
        name=" and ".join(names),
        title=f"{names[0]} beside {names[1]}",
        question="",
        axes={},
        combinations={},
        arms={name: recipes[name] for name in order},
        starts={},
        seeds=tuple(sorted(set(seeds[0]) | {seed_map.get(seed, seed) for seed in seeds[1]})),
        primary=None,
        companions=(),
        smallest_effect=None,
        reproduce=(),
    )
    runs = [run for part in parts for run in part.runs]
    return DisplayedSource(
        folder=sources[0].folder,
        declaration=declaration,
        results=Results(
            rows=tuple(row for part in parts for row in part.results.rows),
            outcomes=tuple(outcome for part in parts for outcome in part.results.outcomes),
        ),
        runs=tuple(sorted(runs, key=lambda run: (order.index(run.arm), run.seed))),
        problems=tuple(
            f"{s}: {p}" for s, part in zip(SIDES, parts, strict=True) for p in part.problems
        ),
    )


def _renamed(source: Source, names: dict[str, str], seeds: dict[int, int]) -> Source:
    """A source restricted to the arms in ``names``, under their names on the page."""

    def relabelled(entry: Any) -> Any:
        return replace(entry, arm=names[entry.arm], seed=seeds.get(entry.seed, entry.seed))

    rows = tuple(relabelled(row) for row in source.results.rows if row.arm in names)
    outcomes = tuple(
        relabelled(outcome) for outcome in source.results.outcomes if outcome.arm in names
    )
    runs: tuple[Run, ...] = tuple(relabelled(run) for run in source.runs if run.arm in names)
    return replace(
        source, results=replace(source.results, rows=rows, outcomes=outcomes), runs=runs
    )


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
