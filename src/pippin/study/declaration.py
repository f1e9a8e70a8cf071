# SPDX-License-Identifier: Apache-2.0
"""What a study declared before its first run: the content of ``study.json``."""

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
    """A study as plain JSON values, so that a report needs none of the code that made it."""

    FORMAT = "study"

    name: str
    title: str
    question: str
    axes: dict[str, DeclaredAxis]
    combinations: dict[str, dict[str, str]]
    """Arm -> axis -> level."""
    arms: dict[str, dict[str, Any]]
    """Arm -> complete recipe; the first arm is the one that the others are compared with."""
    starts: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Name -> complete recipe of a run that arms go on from."""
    seeds: tuple[int, ...]
    first_seeds: tuple[int, ...]
    """The seeds declared before the first run; others in ``seeds`` were added later."""
    primary: str | None
    """None for the report of a single run, which compares nothing."""
    companions: tuple[str, ...]
    smallest_effect: float | None
    contrasts: tuple[Contrast, ...] = ()
    """Claims as weighted sums of arms; studies of earlier versions have none."""
    prediction: str = ""
    """What was expected, in a sentence."""
    reproduce: tuple[str, ...]

    @property
    def paths(self) -> tuple[str, ...]:
        """The setting paths that arms may differ in."""
        found = (
            path for axis in self.axes.values() for level in axis.levels.values() for path in level
        )
        return tuple(dict.fromkeys(found))

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
