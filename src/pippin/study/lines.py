# SPDX-License-Identifier: Apache-2.0
"""A line of the table of results, and which lines stand together."""

import re
from dataclasses import dataclass, replace
from typing import Literal

from pippin.study.glossary import Term
from pippin.study.verdict import Comparison

Tone = Literal["plain", "good", "bad", "mute"]
QUALITY = re.compile(
    r"(?P<kind>FID|FD|KID|sharpness)(-[\w.]+)?(?P<where> at best (scale|request))?"
)
"""Metrics of samples' quality, of which none is to be read without the others."""


@dataclass(frozen=True, kw_only=True)
class Cell:
    """What a cell says: the number, a remark, and the difference to the first arm."""

    text: str
    remark: str = ""
    delta: str = ""
    tone: Tone = "plain"
    """Of ``delta``, or of ``text`` where there is none."""


ABSENT = Cell(text="\N{EN DASH}", tone="mute")
"""A reference that nobody measured."""


@dataclass(frozen=True, kw_only=True)
class Line:
    """One metric."""

    metric: str
    term: Term
    """The metric in words."""
    role: str
    """"primary", "companion", "exploratory" (of a study that contrasts decide) or empty."""
    better: str
    unit: str
    count: str
    """How many seeds, and how many samples each."""
    arms: tuple[Cell, ...]
    untrained: Cell
    real: Cell
    unranked: tuple[str, ...]
    """Numbers of another protocol, each with what differs."""
    comparisons: tuple[Comparison, ...]

    @property
    def detail(self) -> bool:
        """Shown on demand: neither declared nor among the few that a reader looks for first."""
        return not self.role and not self.term.leads

    @property
    def has_references(self) -> bool:
        """Whether untrained weights or real pictures were measured too."""
        return self.untrained is not ABSENT or self.real is not ABSENT


def quality_together(lines: list[Line]) -> list[Line]:
    """FD, KID and sharpness of the same samples side by side, and shown without being asked for:
    the distances fall where samples are blurred, so neither is to be read alone."""
    places = {kind: place for place, kind in enumerate(("FID", "FD", "KID", "sharpness"))}
    matches = [(line, QUALITY.fullmatch(line.metric)) for line in lines]
    found = [(line, match) for line, match in matches if match]
    found.sort(key=lambda pair: (pair[1]["where"] or "", places[pair[1]["kind"]]))
    ours = [replace(line, role=line.role or "exploratory") for line, _ in found]
    others = [line for line, match in matches if not match]
    return [*(line for line in others if line.role), *ours, *(o for o in others if not o.role)]
