# SPDX-License-Identifier: Apache-2.0
"""Declared agreement of two rankings: are the same methods best under two conditions?

A ranking orders the arms of one condition by a metric. Two rankings of the same methods agree if
their rank correlation is positive. A study that declares agreements is decided by its primary one.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from pippin.config import Config, ConfigError
from pippin.studies.claims import claim_problems, refuse_repeated_names

AgreementRole = Literal["primary", "secondary"]
MIN_METHODS = 3
"""Smallest number of ranked methods: two have only two orders."""


@dataclass(frozen=True, kw_only=True)
class Ranking(Config):
    """The arms of one condition, ranked by a metric."""

    name: str
    """Name of the condition in reports."""
    metric: str
    """Metric with a better direction; rank 1 is best."""
    arms: tuple[str, ...]
    """One arm for each method, in the order of :attr:`RankAgreement.methods`."""


@dataclass(frozen=True, kw_only=True)
class RankAgreement(Config):
    """The claim that two rankings of the same methods agree."""

    name: str
    claim: str
    """One sentence that is true if the rankings agree."""
    methods: tuple[str, ...]
    """Names of the ranked methods in reports."""
    first: Ranking
    second: Ranking
    smallest_effect: float = 0.5
    """Smallest Spearman correlation that counts as agreement, in (0, 1]."""
    role: AgreementRole = "primary"
    """The primary agreement gets a verdict; secondary ones are exploratory."""

    @property
    def metrics(self) -> tuple[str, ...]:
        """The metrics of both rankings, each once."""
        return tuple(dict.fromkeys((self.first.metric, self.second.metric)))


def check_agreements(agreements: Sequence[RankAgreement], arms: Collection[str]) -> None:
    """Refuse agreements that cannot be evaluated.

    Args:
        agreements: all agreements of one study.
        arms: the names of its arms.

    Raises:
        ConfigError: the message names the agreement, what is wrong and what is allowed.
    """
    refuse_repeated_names("agreements", agreements)
    primary = [agreement.name for agreement in agreements if agreement.role == "primary"]
    if agreements and len(primary) != 1:
        raise ConfigError(
            f"{len(primary)} agreements are primary ({', '.join(primary) or 'none'}); exactly one "
            "decides a study: give the others role='secondary'"
        )
    for agreement in agreements:
        for problem in _problems(agreement, arms):
            raise ConfigError(f"agreement {agreement.name!r}: {problem}")


def _problems(agreement: RankAgreement, arms: Collection[str]) -> Iterator[str]:
    """Errors of one agreement, one message each."""
    yield from claim_problems(agreement, (*agreement.first.arms, *agreement.second.arms), arms)
    if agreement.role not in get_args(AgreementRole):
        yield f"role must be one of {', '.join(get_args(AgreementRole))}; got {agreement.role!r}"
    if not 0 < agreement.smallest_effect <= 1:
        yield f"smallest_effect must be above 0, and 1 at most; got {agreement.smallest_effect}"
    if len(set(agreement.methods)) < max(MIN_METHODS, len(agreement.methods)):
        yield (
            f"it needs {MIN_METHODS} methods or more with different names; got "
            f"{list(agreement.methods)}"
        )
    for ranking in (agreement.first, agreement.second):
        yield from _ranking_problems(ranking, len(agreement.methods))


def _ranking_problems(ranking: Ranking, methods: int) -> Iterator[str]:
    if len(ranking.arms) != methods:
        yield (
            f"ranking {ranking.name!r} needs one arm for each of {methods} methods; got "
            f"{len(ranking.arms)}"
        )
    if len(set(ranking.arms)) < len(ranking.arms):
        yield f"ranking {ranking.name!r} names an arm twice: {list(ranking.arms)}"
