# SPDX-License-Identifier: Apache-2.0
"""Record of scaling curves."""

import math
from dataclasses import dataclass
from typing import Any, Literal

from pippin.bench.record import Spread
from pippin.config import Config


@dataclass(frozen=True, kw_only=True)
class PointResult(Config):
    """Figure at one point of the axis."""

    x: int
    value: Spread
    """Over repetitions."""
    ideal: float
    """Figure of perfect scaling from the series' first point, or of the law itself."""
    ratio: Spread | None = None
    """Figure of pippin over this one within each round; None for pippin's own series."""

    @property
    def of_ideal(self) -> float:
        """Measured over ideal figure; NaN where the ideal is 0, a measurement of nothing."""
        return self.value.median / self.ideal if self.ideal else math.nan


@dataclass(frozen=True, kw_only=True)
class SeriesResult(Config):
    """One line of a curve."""

    name: str
    points: tuple[PointResult, ...]


@dataclass(frozen=True, kw_only=True)
class CurveResult(Config):
    """One figure against one axis; see
    :class:`pippin.bench.scaling.declarations.CurveDeclaration`."""

    key: str
    title: str
    axis: str
    unit: str
    better: Literal["higher", "lower"]
    law: str
    """Law of the ideal line in words."""
    note: str
    series: tuple[SeriesResult, ...]
    """pippin's own first."""
    left_out: tuple[str, ...]
    """Points that were not measured, with the reason."""


@dataclass(frozen=True, kw_only=True)
class ScalingRecord(Config):
    """Record of one measurement of scaling curves."""

    FORMAT = "scaling record"

    versions: dict[str, str]
    machine: dict[str, str]
    load_average: tuple[float, ...]
    """One-minute load average of the machine before and after; empty where unknown."""
    settings: dict[str, Any]
    seconds: float
    """Wall-clock time of the whole measurement."""
    curves: tuple[CurveResult, ...]
