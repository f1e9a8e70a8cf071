# SPDX-License-Identifier: Apache-2.0
"""Declaration of a curve: a figure against an axis, and the law of perfect scaling."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from pippin.bench.scaling.config import CurveName

PIPPIN = "pippin"
"""Name of pippin's own series, the first of every curve."""
Better = Literal["higher", "lower"]


@dataclass(frozen=True, kw_only=True)
class Law:
    """Growth of a figure under perfect scaling."""

    words: str
    """The law in words, for the page."""
    relative: Callable[[int], float]
    """Figure at a point, up to a factor; absolute where ``anchored`` is False."""
    anchored: bool = True
    """Whether the first measured point sets the factor."""

    def ideal(self, points: Sequence[int], first: float) -> tuple[float, ...]:
        """Ideal figures.

        Args:
            points: of the axis; the first is the anchor.
            first: figure measured at the first point.
        """
        values = [self.relative(point) for point in points]
        factor = first / values[0] if values and self.anchored else 1.0
        return tuple(factor * value for value in values)


@dataclass(frozen=True, kw_only=True)
class CurveDeclaration:
    """One figure against one axis."""

    key: str
    """Name in records."""
    title: str
    axis: str
    unit: str
    better: Better
    law: Law
    note: str = ""
    """Further facts that a reader needs, without a full stop."""


@dataclass(frozen=True, kw_only=True)
class Measured:
    """Measurement at one point."""

    values: Mapping[str, Mapping[str, Sequence[float]]]
    """Key of a curve -> series -> one value for each repetition. The repetitions of all series of
    a curve took turns, so those at one position are comparable."""
    call_seconds: float
    """Longest call, from which the time of the next point is predicted."""


@dataclass(frozen=True, kw_only=True)
class CurveFamily:
    """Curves that are measured together."""

    name: CurveName
    points: tuple[int, ...]
    curves: tuple[CurveDeclaration, ...]
    cost: Callable[[int], float]
    """Seconds of a call, up to a factor."""
    measure: Callable[[int], Measured]
    limit: int | None = None
    """Largest point that this machine has room for; None = all."""
    limit_words: str = ""
    """The limit in words."""
