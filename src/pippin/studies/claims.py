# SPDX-License-Identifier: Apache-2.0
"""Names, claims, arms and roles: the part that contrasts and agreements share."""

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from typing import Literal, Protocol, runtime_checkable

from pippin.config import ConfigError

Verdict = Literal["supported", "not supported", "inconclusive", "exploratory"]
NOT_CORRECTED = "Not corrected for other comparisons: no verdict."
"""Reason of a claim that is not primary."""
NO_COMMON_SEED = "No training seed has all of its numbers yet."


@runtime_checkable
class Claim(Protocol):
    """A declared claim: a contrast or an agreement."""

    @property
    def name(self) -> str:
        """Name in reports."""

    @property
    def claim(self) -> str:
        """One sentence."""


def refuse_repeated_names(kind: str, claims: Sequence[Claim]) -> None:
    """Refuse two claims of one name.

    Args:
        kind: "contrasts" or "agreements", for the message.
        claims: all claims of that kind.

    Raises:
        ConfigError: the message names the claims.
    """
    for name, count in Counter(claim.name for claim in claims).items():
        if count > 1:
            raise ConfigError(f"{count} {kind} have the name {name!r}: give each its own name")


def claim_problems(claim: Claim, used: Collection[str], arms: Collection[str]) -> Iterator[str]:
    """Errors that any claim can have, one message each.

    Args:
        claim: the claim.
        used: the arms that it names.
        arms: the arms of its study.
    """
    if not claim.name.strip() or not claim.claim.strip():
        yield "it needs a name and a claim (one sentence)"
    for arm in dict.fromkeys(used):
        if arm not in arms:
            yield f"there is no arm {arm!r}; the study has: {', '.join(arms)}"


def verdict_without_test(role: str) -> Verdict:
    """The verdict of a claim before any test: only primary claims get another one."""
    return "inconclusive" if role == "primary" else "exploratory"
