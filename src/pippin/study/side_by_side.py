# SPDX-License-Identifier: Apache-2.0
"""Two studies, or two runs, combined into one source with paired arms.

Numbers are compared only if they were measured in the same way. Differences in training are the
purpose of such a page, which lists them; differences in *measurement* make numbers incomparable.
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
    return Source(
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
