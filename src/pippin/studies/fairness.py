# SPDX-License-Identifier: Apache-2.0
"""Checks of a fair comparison, which refuse unfair or impossible studies before any training."""

import itertools
import re
from collections.abc import Mapping, Sequence
from operator import attrgetter
from typing import Any

from pippin.config import Config, ConfigError, difference
from pippin.recipes.recipe import Recipe
from pippin.runs.folder import STUDY_RUN_PREFIX

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
BUDGET = "train.images"
"""Path of the setting with a run's training budget in images."""


def refuse_other_differences(recipes: Mapping[str, Recipe], declared: Sequence[str]) -> None:
    """Refuse recipes that differ in any protocol setting outside the declared paths.

    Raises:
        ConfigError: the message names each path and both values.
    """
    first, *others = recipes
    for other in others:
        differences = difference(recipes[first], recipes[other])
        undeclared = {
            path: pair for path, pair in differences.items() if not covered(path, declared)
        }
        if undeclared:
            lines = "".join(f"\n  {p}: {a!r} and {b!r}" for p, (a, b) in undeclared.items())
            raise ConfigError(
                f"arms {first!r} and {other!r} differ outside the declared axes "
                f"({', '.join(declared) or 'none'}):{lines}\n"
                "make these settings equal, or declare them as an axis"
            )
        if BUDGET in differences and BUDGET not in declared:
            a, b = differences[BUDGET]
            raise ConfigError(
                f"arms {first!r} and {other!r} have different budgets ({BUDGET}: {a} and {b}); "
                f"declare {BUDGET!r} itself as an axis if the length of training is the question"
            )


def covered(path: str, declared: Sequence[str]) -> bool:
    """True for a setting path that is one of the declared paths or lies below one."""
    return path in declared or path.startswith(tuple(f"{above}." for above in declared))


def value_at(config: Config, path: str) -> Any:
    """The setting at a dotted path.

    Raises:
        ConfigError: the path does not exist.
    """
    try:
        return attrgetter(path)(config)
    except AttributeError as error:
        raise ConfigError(f"{type(config).__name__} has no setting {path!r}: {error}") from error


def refuse_names(names: list[str]) -> None:
    """Refuse names that cannot be folder names."""
    for name in names:
        if not _NAME.fullmatch(name):
            raise ConfigError(
                f"{name!r} cannot name a study or an arm: use letters, digits, '.', '_' and '-', "
                "starting with a letter or a digit"
            )


def refuse_starts(starts: Mapping[str, Recipe], arms: Mapping[str, Recipe]) -> None:
    """Refuse unknown and unused starts: ``init.run`` of a start or arm names an earlier start."""
    refuse_names([*starts])
    available: list[str] = []
    used = set()
    for name, recipe in [*starts.items(), *arms.items()]:
        start = start_of(recipe)
        if start is not None and start not in available:
            raise ConfigError(
                f"{name!r} starts from {STUDY_RUN_PREFIX}{start}, but the runs to start from "
                f"before it are: {', '.join(available) or 'none'}"
            )
        used.add(start)
        if name in starts:
            available.append(name)
    unused = [name for name in starts if name not in used]
    if unused:
        raise ConfigError(
            f"no arm starts from {', '.join(unused)}: remove it, or name it in init.run"
        )


def start_of(recipe: Recipe) -> str | None:
    """Name of the start whose weights initialise a recipe; None for all other recipes."""
    run = recipe.init.run
    return (
        run.removeprefix(STUDY_RUN_PREFIX)
        if run is not None and run.startswith(STUDY_RUN_PREFIX)
        else None
    )


def refuse_overlap(paths: tuple[str, ...]) -> None:
    """Refuse axes that vary the seed or a setting of another axis."""
    if covered("seed", paths):
        raise ConfigError("the seed is no axis: every arm runs on each of the study's seeds")
    for first, second in itertools.permutations(paths, 2):
        if covered(first, (second,)):
            raise ConfigError(f"two axes set the same setting: {second!r} and {first!r}")


def refuse_equal_arms(arms: Mapping[str, Recipe]) -> None:
    """Refuse two arms with the same settings."""
    for first, second in itertools.combinations(arms, 2):
        if not difference(arms[first], arms[second]):
            raise ConfigError(f"arms {first!r} and {second!r} are the same recipe")
