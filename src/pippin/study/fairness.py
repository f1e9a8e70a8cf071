# SPDX-License-Identifier: Apache-2.0
"""What makes a comparison unfair or impossible: refused before anything is trained."""

import itertools
import re
from collections.abc import Mapping, Sequence
from operator import attrgetter
from typing import Any

from pippin.config import Config, ConfigError, difference
from pippin.recipes.recipe import Recipe
from pippin.run.folder import START

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
BUDGET = "train.images"
"""The setting that is a run's budget."""


def refuse_other_differences(recipes: Mapping[str, Recipe], declared: Sequence[str]) -> None:
    """Refuse recipes that differ in any protocol setting outside the declared paths.

    Raises:
        ConfigError: naming each path and both values.
    """
    first, *others = recipes
    for other in others:
        found = difference(recipes[first], recipes[other])
        undeclared = {path: pair for path, pair in found.items() if not covered(path, declared)}
        if undeclared:
            lines = "".join(f"\n  {p}: {a!r} and {b!r}" for p, (a, b) in undeclared.items())
            raise ConfigError(
                f"arms {first!r} and {other!r} differ outside the declared axes "
                f"({', '.join(declared) or 'none'}):{lines}\n"
                "make these settings equal, or declare them as an axis"
            )
        if BUDGET in found and BUDGET not in declared:
            a, b = found[BUDGET]
            raise ConfigError(
                f"arms {first!r} and {other!r} have different budgets ({BUDGET}: {a} and {b}); "
                f"declare {BUDGET!r} itself as an axis if the length of training is the question"
            )


def covered(path: str, declared: Sequence[str]) -> bool:
    """Whether a setting path is one of the declared paths or lies below one."""
    return any(path == one or path.startswith(f"{one}.") for one in declared)


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
    """Names become folder names."""
    for name in names:
        if not _NAME.fullmatch(name):
            raise ConfigError(
                f"{name!r} cannot name a study or an arm: use letters, digits, '.', '_' and '-', "
                "starting with a letter or a digit"
            )


def refuse_starts(starts: Mapping[str, Recipe], arms: Mapping[str, Recipe]) -> None:
    """Every start is named by somebody after it, and every name is a start."""
    refuse_names([*starts])
    known: list[str] = []
    used = set()
    for name, recipe in [*starts.items(), *arms.items()]:
        wanted = start_of(recipe)
        if wanted is not None and wanted not in known:
            raise ConfigError(
                f"{name!r} starts from {START}{wanted}, but the runs to start from before it are: "
                f"{', '.join(known) or 'none'}"
            )
        used.add(wanted)
        if name in starts:
            known.append(name)
    idle = [name for name in starts if name not in used]
    if idle:
        raise ConfigError(f"no arm starts from {', '.join(idle)}: leave it out, or name it")


def start_of(recipe: Recipe) -> str | None:
    """The name of the run that a recipe goes on from, where it is one of the study's own."""
    run = recipe.init.run
    return run.removeprefix(START) if run is not None and run.startswith(START) else None


def refuse_overlap(paths: tuple[str, ...]) -> None:
    if covered("seed", paths):
        raise ConfigError("the seed is no axis: every arm runs on each of the study's seeds")
    for first, second in itertools.permutations(paths, 2):
        if covered(first, (second,)):
            raise ConfigError(f"two axes set the same setting: {second!r} and {first!r}")


def refuse_twins(arms: Mapping[str, Recipe]) -> None:
    for first, second in itertools.combinations(arms, 2):
        if not difference(arms[first], arms[second]):
            raise ConfigError(f"arms {first!r} and {second!r} are the same recipe")
