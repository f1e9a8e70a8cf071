# SPDX-License-Identifier: Apache-2.0
"""The declaration of a study, made before its first run: the content of ``study.json``."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from pippin.config import Config
from pippin.study.contrasts import Contrast


@dataclass(frozen=True, kw_only=True)
class DeclaredAxis(Config):
    """An axis as plain JSON values: level -> setting path -> value."""

    description: str = ""
    levels: dict[str, dict[str, Any]]


@dataclass(frozen=True, kw_only=True)
class Declaration(Config):
    """A study as plain JSON values, so that a report does not need the code that declared it."""

    FORMAT = "study"

    name: str
    title: str
    question: str
    axes: dict[str, DeclaredAxis]
    combinations: dict[str, dict[str, str]]
    """Arm -> axis -> level."""
    arms: dict[str, dict[str, Any]]
    """Arm -> complete recipe; the first arm is the baseline of all comparisons."""
    starts: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Name -> complete recipe of a pre-training run whose weights initialise arms."""
    seeds: tuple[int, ...]
    first_seeds: tuple[int, ...]
    """The seeds declared before the first run; others in ``seeds`` were added later."""
    primary: str | None
    """Name of the deciding metric; None for the report of a single run, which compares nothing."""
    companions: tuple[str, ...]
    smallest_effect: float | None
    contrasts: tuple[Contrast, ...] = ()
    """Claims as weighted sums of arms; studies of earlier versions have none."""
    prediction: str = ""
    """The expected result, in a sentence."""
    reproduce: tuple[str, ...]

    @property
    def paths(self) -> tuple[str, ...]:
        """The setting paths that arms may differ in."""
        paths = (
            path for axis in self.axes.values() for level in axis.levels.values() for path in level
        )
        return tuple(dict.fromkeys(paths))

    def settings(self) -> dict[str, dict[str, Any]]:
        """Arm -> every setting by dotted path."""
        return {arm: dict(flat(recipe)) for arm, recipe in self.arms.items()}


def flat(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The leaves of nested dictionaries, by dotted path."""
    for name, value in tree.items():
        if isinstance(value, Mapping) and value:
            yield from flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
