# SPDX-License-Identifier: Apache-2.0
"""A line of the table of results, and the order of lines on sample quality."""

import re
from dataclasses import dataclass, replace
from typing import Literal

from pippin.study.glossary import Term
from pippin.study.verdict import Comparison

Tone = Literal["plain", "good", "bad", "mute"]
QUALITY = re.compile(
    r"(?P<kind>FID|FD|KID|sharpness)(-[\w.]+)?(?P<where> at best (scale|request))?"
)
"""Metrics of sample quality, which must be read together."""


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One cell: the number, a remark, and the difference to the baseline."""

    text: str
    remark: str = ""
    delta: str = ""
    tone: Tone = "plain"
    """Tone of ``delta``, or of ``text`` without a ``delta``."""


ABSENT = Cell(text="\N{EN DASH}", tone="mute")
"""A reference that was not measured."""


@dataclass(frozen=True, kw_only=True)
class Line:
    """One metric."""

    metric: str
    term: Term
    """Label and description of the metric."""
    role: str
    """"primary", "companion", "exploratory" (in a study with contrasts) or empty."""
    better: str
    unit: str
    count: str
    """Number of seeds, and of samples for each."""
    arms: tuple[Cell, ...]
    untrained: Cell
    real: Cell
    unranked: tuple[str, ...]
    """Numbers of another protocol, each with the settings that differ."""
    comparisons: tuple[Comparison, ...]

    @property
    def detail(self) -> bool:
        """True for collapsed lines: neither declared nor among the main metrics."""
        return not self.role and not self.term.leads

    @property
    def has_references(self) -> bool:
        """True if untrained weights or real images were measured too."""
        return self.untrained is not ABSENT or self.real is not ABSENT


def quality_together(lines: list[Line]) -> list[Line]:
    """Lines with FD, KID and sharpness of the same samples side by side in the main table.

    The distances fall where samples are blurred, so none may be read alone.
    """
    order = {kind: index for index, kind in enumerate(("FID", "FD", "KID", "sharpness"))}
    matches = [(line, QUALITY.fullmatch(line.metric)) for line in lines]
    quality_lines = [(line, match) for line, match in matches if match]
    quality_lines.sort(key=lambda pair: (pair[1]["where"] or "", order[pair[1]["kind"]]))
    shown = [replace(line, role=line.role or "exploratory") for line, _ in quality_lines]
    others = [line for line, match in matches if not match]
    return [
        *(line for line in others if line.role),
        *shown,
        *(line for line in others if not line.role),
    ]
