# SPDX-License-Identifier: Apache-2.0
"""Two studies, or two runs, seen as one source with an arm of each side beside the other.

Numbers are compared only where they were measured in the same way. What was trained differently
is what such a page is for, and it is shown; what was *measured* differently makes numbers
incomparable, whatever else is equal.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pippin.config import ConfigError
from pippin.study.fairness import covered
from pippin.study.results import Results, Row
from pippin.study.source import Run, Source, open_source

SIDES = ("A", "B")
MEASURING = ("data", "autoencoder", "sampling", "evaluation", "measure")
"""Sections of a protocol that decide what a number means: pictures, how samples are drawn and
decoded, how they are measured."""
_OF_MODEL = ("measure.model",)
"""Which model was measured: follows from the settings, which stand on the page themselves."""


@dataclass(frozen=True, kw_only=True)
class Pair:
    """An arm of A and the arm of B that it is compared with, by their names on the page."""

    first: str
    second: str


@dataclass(frozen=True, kw_only=True)
class Both:
    """Two sources as one."""

    names: tuple[str, str]
    """Of the two folders."""
    source: Source
    """Holds the arms of all pairs, each pair's A before its B; it has no primary metric."""
    pairs: tuple[Pair, ...]
    alone: tuple[str, ...]
    """Arms that only one of the studies has."""
    are_runs: bool


def open_both(first: Path, second: Path) -> Both:
    """Read two folders of one kind.

    Raises:
        ConfigError: a folder is neither a study nor a run; one is a study and the other a run;
            both are the same; or two studies have no arm of the same name.
    """
    if first.resolve() == second.resolve():
        raise ConfigError(f"both folders are {first}; give two different ones")
    sources = open_source(first), open_source(second)
    kinds = ["study" if one.is_study else "run" for one in sources]
    if kinds[0] != kinds[1]:
        raise ConfigError(
            f"{first} is a {kinds[0]} and {second} a {kinds[1]}: compare two studies or two "
            "runs (a study's runs lie in its folder runs/)"
        )
    arms = [_arms(sources, shared) for shared in _shared(sources, first, second)]
    every = {arm for one in sources for arm in one.declaration.arms}
    paired = {arm for pair in arms for arm in pair}
    names = _names(first, second)
    pairs = tuple(Pair(first=f"A: {a}", second=f"B: {b}") for a, b in arms)
    if not sources[0].is_study:
        pairs = (Pair(first=f"A: {names[0]}", second=f"B: {names[1]}"),)
    return Both(
        names=names,
        source=_joined(sources, arms, pairs, names),
        pairs=pairs,
        alone=tuple(sorted(every - paired)),
        are_runs=not sources[0].is_study,
    )


def obstacles(first: Row, second: Row) -> list[str]:
    """Why two numbers of one metric may not be compared: what was measured differently."""
    a, b = first.protocol, second.protocol
    found = []
    for path in dict.fromkeys((*a, *b)):
        if (
            covered(path, MEASURING)
            and not covered(path, _OF_MODEL)
            and a.get(path) != b.get(path)
        ):
            found.append(f"{path} = {_said(a, path)} in A, {_said(b, path)} in B")
    return found


def _said(protocol: dict[str, Any], path: str) -> str:
    return repr(protocol[path]) if path in protocol else "absent"


def _shared(sources: tuple[Source, Source], first: Path, second: Path) -> list[str]:
    """Names of the arms that are compared; two runs are, whatever they are called."""
    mine, theirs = (list(one.declaration.arms) for one in sources)
    if not sources[0].is_study:
        return [""]
    shared = [arm for arm in mine if arm in theirs]
    if not shared:
        raise ConfigError(
            f"{first} has the arms {', '.join(mine)} and {second} has {', '.join(theirs)}: "
            "there is no arm of the same name to compare"
        )
    return shared


def _arms(sources: tuple[Source, Source], shared: str) -> tuple[str, str]:
    first, second = (shared or next(iter(one.declaration.arms)) for one in sources)
    return first, second


def _names(first: Path, second: Path) -> tuple[str, str]:
    """The folders' names; where these are equal, with the folders above."""
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

    Two runs stand at one seed, for they are compared whatever their training seeds are; these
    are among the settings that the page shows.
    """
    labels = [
        {one[side]: (pair.first, pair.second)[side] for one, pair in zip(arms, pairs, strict=True)}
        for side in (0, 1)
    ]
    seeds = [one.declaration.seeds for one in sources]
    moved = {seeds[1][0]: seeds[0][0]} if not sources[0].is_study else {}
    parts = [
        _renamed(one, names, seed)
        for one, names, seed in zip(sources, labels, ({}, moved), strict=True)
    ]
    order = [name for pair in pairs for name in (pair.first, pair.second)]
    recipes = {
        label: one.declaration.arms[arm]
        for one, names in zip(sources, labels, strict=True)
        for arm, label in names.items()
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
        seeds=tuple(sorted(set(seeds[0]) | {moved.get(one, one) for one in seeds[1]})),
        primary=None,
        companions=(),
        smallest_effect=None,
        reproduce=(),
    )
    runs = [run for part in parts for run in part.runs]
    return Source(
        folder=sources[0].folder,
        declaration=declaration,
        results=Results(
            rows=tuple(row for part in parts for row in part.results.rows),
            outcomes=tuple(one for part in parts for one in part.results.outcomes),
        ),
        runs=tuple(sorted(runs, key=lambda run: (order.index(run.arm), run.seed))),
        problems=tuple(
            f"{s}: {p}" for s, part in zip(SIDES, parts, strict=True) for p in part.problems
        ),
    )


def _renamed(source: Source, names: dict[str, str], seeds: dict[int, int]) -> Source:
    """The arms that have a name on the page, under it."""

    def here(one: Any) -> Any:
        return replace(one, arm=names[one.arm], seed=seeds.get(one.seed, one.seed))

    rows = tuple(here(row) for row in source.results.rows if row.arm in names)
    outcomes = tuple(here(one) for one in source.results.outcomes if one.arm in names)
    runs: tuple[Run, ...] = tuple(here(run) for run in source.runs if run.arm in names)
    return replace(
        source, results=replace(source.results, rows=rows, outcomes=outcomes), runs=runs
    )
