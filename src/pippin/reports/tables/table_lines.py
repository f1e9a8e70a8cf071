# SPDX-License-Identifier: Apache-2.0
"""A line of the table of results, and the order of lines on sample quality."""

from dataclasses import dataclass, replace
from typing import Literal

from pippin.evaluation.metric import Metric
from pippin.evaluation.metrics.declared.best_setting import AT_BEST_REQUEST, AT_BEST_SCALE
from pippin.evaluation.metrics.declared.distances import FD, FID, KID
from pippin.evaluation.metrics.declared.sharpness import SHARPNESS
from pippin.studies.verdict import Comparison

ARROWS = {"lower": "↓ lower is better", "higher": "↑ higher is better"}
NEAREST = "≈ nearest to real images is better"
SIGNS = tuple(text[0] for text in (*ARROWS.values(), NEAREST))
"""The signs of the better direction."""
Tone = Literal["plain", "good", "bad", "mute"]
QUALITY = (FID, FD, KID, SHARPNESS)
"""Metrics of sample quality, which must be read together, in their order in the table."""
PLACES = (AT_BEST_REQUEST, AT_BEST_SCALE)
"""Settings that these metrics are also measured at, in their order in the table."""


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One cell: the number, a remark, and the difference to the baseline."""

    text: str
    remark: str = ""
    delta: str = ""
    tone: Tone = "plain"
    """Tone of ``delta``, or of ``text`` without a ``delta``."""

    @property
    def full_text(self) -> str:
        """Number, remark and difference as one text."""
        remark = f" ({self.remark})" if self.remark else ""
        return f"{self.text}{remark}" + (f"; {self.delta}" if self.delta else "")


ABSENT = Cell(text="\N{EN DASH}", tone="mute")
"""A reference that was not measured."""


@dataclass(frozen=True, kw_only=True)
class Line:
    """One metric."""

    metric: Metric
    role: str
    """"primary", "companion", "exploratory" (in a study with contrasts) or empty."""
    better: str
    """The better direction: its sign, if it has one, and words."""
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
    def sign(self) -> str:
        """Sign of the better direction; empty if neither direction is better."""
        return self.better[0] if self.better.startswith(SIGNS) else ""

    @property
    def direction(self) -> str:
        """The better direction in words, without its sign."""
        return self.better.removeprefix(self.sign).lstrip()

    @property
    def detail(self) -> bool:
        """True for collapsed lines: neither declared nor among the main metrics."""
        return not self.role and not self.metric.leads

    @property
    def has_references(self) -> bool:
        """True if untrained weights or real images were measured too."""
        return self.untrained is not ABSENT or self.real is not ABSENT


def quality_together(lines: list[Line]) -> list[Line]:
    """Lines with FD, KID and sharpness of the same samples side by side in the main table.

    The distances fall where samples are blurred, so none may be read alone.
    """
    places = [_place(line.metric) for line in lines]
    ranked = sorted(
        ((place, line) for place, line in zip(places, lines, strict=True) if place is not None),
        key=lambda pair: pair[0],
    )
    shown = [replace(line, role=line.role or "exploratory") for _, line in ranked]
    others = [line for place, line in zip(places, lines, strict=True) if place is None]
    return [
        *(line for line in others if line.role),
        *shown,
        *(line for line in others if not line.role),
    ]


def _place(metric: Metric) -> tuple[int, int] | None:
    """Rank of a metric of sample quality: by its setting, then by its kind; None for others."""
    setting = 1 + PLACES.index(metric.kind) if metric.kind in PLACES else 0
    inner = metric.of if setting and metric.of else metric
    return (setting, QUALITY.index(inner.kind)) if inner.kind in QUALITY else None
