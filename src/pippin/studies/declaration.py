# SPDX-License-Identifier: Apache-2.0
"""The declaration of a study as plain JSON values: the content of ``study.json``."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from pippin.config import Config
from pippin.studies.agreement import RankAgreement
from pippin.studies.contrasts import Contrast


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
    agreements: tuple[RankAgreement, ...] = ()
    """Claims that two rankings agree; studies of earlier versions have none."""
    prediction: str = ""
    """The expected result, in a sentence."""
    reproduce: tuple[str, ...]

    @property
    def decided_by_claims(self) -> bool:
        """True if contrasts or agreements decide, so that the primary metric is exploratory."""
        return bool(self.contrasts or self.agreements)

    @property
    def claimed_metrics(self) -> tuple[str, ...]:
        """The metrics of contrasts and agreements, each once."""
        return claimed_metrics(self.contrasts, self.agreements)

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


def claimed_metrics(
    contrasts: tuple[Contrast, ...], agreements: tuple[RankAgreement, ...]
) -> tuple[str, ...]:
    """The metrics of contrasts and agreements, each once."""
    claims: tuple[Contrast | RankAgreement, ...] = (*contrasts, *agreements)
    return tuple(dict.fromkeys(metric for claim in claims for metric in claim.metrics))
