# SPDX-License-Identifier: Apache-2.0
"""A study: a base recipe, the axes in which its arms may differ, seeds, and a declaration.

This module builds and checks the fair comparison: every arm is the base recipe with the settings
of its axes' levels replaced, and :meth:`Study.check` refuses arms that differ anywhere else.
"""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pippin.config import Config, ConfigError, check_record, replace_at
from pippin.recipes.recipe import Recipe
from pippin.studies.agreement import RankAgreement, check_agreements
from pippin.studies.contrasts import Contrast, check_contrasts
from pippin.studies.declaration import Declaration, DeclaredAxis, claimed_metrics
from pippin.studies.fairness import (
    refuse_equal_arms,
    refuse_names,
    refuse_other_differences,
    refuse_overlap,
    refuse_starts,
    value_at,
)


@dataclass(frozen=True, kw_only=True)
class Axis:
    """One factor in which arms may differ: level name -> setting path -> value.

    Every level sets the same settings, so that no value is inherited implicitly.
    """

    levels: dict[str, dict[str, Any]]
    description: str = ""

    def __post_init__(self) -> None:
        """Refuse an axis with fewer than two levels, and levels that set different settings."""
        if len(self.levels) < 2:
            raise ConfigError(f"an axis needs two levels or more; got {list(self.levels)}")
        first, *others = self.levels
        for other in others:
            unshared = set(self.levels[first]) ^ set(self.levels[other])
            if unshared or not self.levels[other]:
                raise ConfigError(
                    f"levels {first!r} and {other!r} must set the same settings; "
                    f"only one of them sets: {', '.join(sorted(unshared)) or 'nothing at all'}"
                )

    @property
    def paths(self) -> tuple[str, ...]:
        """The setting paths of this axis."""
        return tuple(next(iter(self.levels.values())))


@dataclass(frozen=True, kw_only=True)
class Study:
    """The arms, seeds and metrics of a comparison, declared before the first run."""

    name: str
    title: str
    question: str
    base: Recipe
    """The recipe that all arms share; ``base.train.images`` is the budget of each run."""
    axes: dict[str, Axis]
    combinations: dict[str, dict[str, str]] | None = None
    """Arm name -> axis name -> level name; None = all combinations of levels. The first arm is the
    baseline of all comparisons."""
    starts: dict[str, Recipe] = field(default_factory=dict)
    """Pre-training runs: name -> recipe. An arm, or a later start, is initialised from one by
    ``init.run`` ``@name``; each is trained once for every training seed, and not evaluated."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Training seeds; every arm runs on each of them, so that differences are paired."""
    primary: str
    """Name of the deciding metric."""
    companions: tuple[str, ...] = ()
    """Metrics without which the primary metric misleads (such as effect for drift)."""
    smallest_effect: float | None = None
    """The smallest difference of the primary metric that matters, in its unit."""
    contrasts: tuple[Contrast, ...] = ()
    """Claims as weighted sums of arms' means; if there are any, they decide instead."""
    agreements: tuple[RankAgreement, ...] = ()
    """Claims that two rankings agree; if there are any, the primary one decides instead."""
    prediction: str = ""
    """The expected result, in a sentence written before the run; the page quotes it."""
    reproduce: tuple[str, ...] = ()
    """Commands that reproduce the study."""

    @classmethod
    def from_recipes(
        cls,
        recipes: Mapping[str, Recipe],
        *,
        axes: Mapping[str, tuple[str, ...]],
        **declared: Any,
    ) -> "Study":
        """A study of complete recipes, by arm name.

        Settings that cannot change a number (device, folders) are taken from the first recipe.

        Args:
            recipes: arm name -> recipe; at least two.
            axes: axis name -> the setting paths in which arms may differ.
            declared: the other fields of :class:`Study`.

        Raises:
            ConfigError: the recipes differ outside the axes; the message names paths and values.
        """
        refuse_other_differences(recipes, [path for paths in axes.values() for path in paths])
        levels = {
            axis: Axis(
                levels={
                    arm: {path: value_at(recipe, path) for path in paths}
                    for arm, recipe in recipes.items()
                }
            )
            for axis, paths in axes.items()
        }
        combinations = {arm: dict.fromkeys(axes, arm) for arm in recipes}
        base = next(iter(recipes.values()))
        study = cls(base=base, axes=levels, combinations=combinations, **declared)
        study.check()
        return study

    @property
    def paths(self) -> tuple[str, ...]:
        """All declared setting paths."""
        return tuple(path for axis in self.axes.values() for path in axis.paths)

    @property
    def declared_metrics(self) -> tuple[str, ...]:
        """The metrics that every run must measure, each once."""
        claimed = claimed_metrics(self.contrasts, self.agreements)
        return tuple(dict.fromkeys((self.primary, *self.companions, *claimed)))

    def arm_levels(self) -> dict[str, dict[str, str]]:
        """Arm name -> axis name -> level name."""
        if self.combinations is not None:
            return self.combinations
        combinations: dict[str, dict[str, str]] = {}
        for levels in itertools.product(*(axis.levels for axis in self.axes.values())):
            name = "-".join(levels)
            if name in combinations:
                raise ConfigError(f"two combinations of levels are both called {name!r}")
            combinations[name] = dict(zip(self.axes, levels, strict=True))
        return combinations

    def arms(self) -> dict[str, Recipe]:
        """Arm name -> complete recipe, first arm first; the seed is still the base's.

        Raises:
            ConfigError: an arm names an axis, a level or a setting that does not exist.
        """
        recipes: dict[str, Recipe] = {}
        for arm, levels in self.arm_levels().items():
            recipe = self.base
            for axis in self.axes:
                for path, value in self._level(arm, levels, axis).items():
                    recipe = replace_at(recipe, path, value)
            recipes[arm] = recipe
        return recipes

    def _level(self, arm: str, levels: Mapping[str, str], axis: str) -> dict[str, Any]:
        if set(levels) != set(self.axes):
            raise ConfigError(
                f"arm {arm!r} must name one level of each axis {list(self.axes)}; "
                f"it names {list(levels)}"
            )
        levels_of_axis = self.axes[axis].levels
        if levels[axis] not in levels_of_axis:
            raise ConfigError(
                f"arm {arm!r}: axis {axis!r} has no level {levels[axis]!r}; it has "
                f"{list(levels_of_axis)}"
            )
        return levels_of_axis[levels[axis]]

    def check(self) -> None:
        """Refuse a study that would not be a fair comparison.

        Raises:
            ConfigError: the message names the arms, the setting paths and both values.
        """
        arms = self.arms()
        refuse_names([self.name, *arms])
        if len(arms) < 2:
            raise ConfigError(f"a study compares two arms or more; got {list(arms)}")
        if not self.seeds or len(set(self.seeds)) != len(self.seeds) or min(self.seeds) < 0:
            raise ConfigError(
                f"seeds must be different integers >= 0, one at least; got {self.seeds}"
            )
        if self.smallest_effect is not None and not self.smallest_effect > 0:
            raise ConfigError(f"smallest_effect must be > 0; got {self.smallest_effect}")
        check_contrasts(self.contrasts, arms)
        check_agreements(self.agreements, arms)
        if self.contrasts and self.agreements:
            raise ConfigError(
                "contrasts and agreements cannot decide one study; declare two studies"
            )
        refuse_starts(self.starts, arms)
        refuse_overlap(self.paths)
        refuse_other_differences(arms, self.paths)
        refuse_equal_arms(arms)
        for recipe in [*arms.values(), *self.starts.values()]:
            check_record(recipe)

    def declaration(self) -> Declaration:
        """The study as plain JSON values: the content of ``study.json``."""
        axes = {
            name: DeclaredAxis(description=axis.description, levels=_plain(axis.levels))
            for name, axis in self.axes.items()
        }
        return Declaration(
            name=self.name,
            title=self.title,
            question=self.question,
            axes=axes,
            combinations=self.arm_levels(),
            arms={arm: _plain(recipe) for arm, recipe in self.arms().items()},
            starts={name: _plain(recipe) for name, recipe in self.starts.items()},
            seeds=self.seeds,
            first_seeds=self.seeds,
            primary=self.primary,
            companions=self.companions,
            smallest_effect=self.smallest_effect,
            contrasts=self.contrasts,
            agreements=self.agreements,
            prediction=self.prediction,
            reproduce=self.reproduce,
        )


def _plain(value: Any) -> Any:
    """A setting's value as plain JSON values."""
    if isinstance(value, Config):
        return _plain(value.to_dict())
    if isinstance(value, Mapping):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(entry) for entry in value]
    return value
