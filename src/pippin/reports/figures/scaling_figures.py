# SPDX-License-Identifier: Apache-2.0
"""Scaling curves on logarithmic axes, each with its ideal line."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any, Literal

from pippin.reports.figures.curves import (
    INK,
    Figure,
    LegendEntry,
    Points,
    band,
    canvas,
    draw_line,
    label_axes,
    single_values,
    to_svg,
)

MIN_SPAN = 6.0
"""Smallest ratio of top and bottom of a figure, so that noise of a flat curve looks flat."""
MARGIN = 1.15


@dataclass(frozen=True, kw_only=True)
class ScalingPoint:
    """A figure with its range, and the figure of perfect scaling."""

    x: float
    median: float
    low: float
    high: float
    repetitions: int
    ideal: float
    ratio: tuple[float, float, float] | None = None
    """Median, minimum and maximum of the first series' figure over this one, within rounds."""

    @property
    def of_ideal(self) -> float:
        """Measured over ideal figure; NaN where the ideal is 0, a measurement of nothing."""
        return self.median / self.ideal if self.ideal else math.nan


@dataclass(frozen=True, kw_only=True)
class ScalingSeries:
    """One line; the ideal of the first one is drawn."""

    name: str
    points: tuple[ScalingPoint, ...]


@dataclass(frozen=True, kw_only=True)
class ScalingCurve:
    """A figure against an axis."""

    key: str
    title: str
    axis: str
    unit: str
    better: Literal["higher", "lower"]
    law: str
    """Law of the ideal line in words."""
    note: str
    series: tuple[ScalingSeries, ...]
    left_out: tuple[str, ...] = ()


def scaling_figure(curve: ScalingCurve) -> Figure:
    """Figure of a curve: medians with their ranges, and the ideal line, dashed."""
    lines = {series.name: _line(series) for series in curve.series}
    caption = f"{curve.better} is better. Dashed grey: {curve.law}"
    if all(len(points) < 2 for points in lines.values()):
        series = {name: [points] for name, points in lines.items()}
        return single_values(curve.title, caption, series, curve.axis)
    return Figure(
        title=curve.title,
        caption=caption,
        svg=_draw(curve, lines),
        legend=tuple(
            LegendEntry(arm=series.name, position=position, end=_end(series, curve))
            for position, series in enumerate(curve.series)
        ),
        against=curve.axis,
    )


def _line(series: ScalingSeries) -> Points:
    """Points that a logarithmic axis has room for."""
    return [(point.x, point.median) for point in series.points if point.median > 0]


def _end(series: ScalingSeries, curve: ScalingCurve) -> str:
    if not series.points:
        return ""
    last = series.points[-1]
    return f"{rounded(last.median)} {curve.unit}, {last.of_ideal:.2f} of ideal"


def rounded(value: float) -> str:
    """Three digits without an exponent of large numbers: ``18,200``, ``5.3`` or ``0.0123``."""
    return f"{float(f'{value:.3g}'):,.0f}" if value >= 1000 else f"{value:.3g}"


def _draw(curve: ScalingCurve, lines: dict[str, Points]) -> str:
    figure, axes = canvas()
    axes.set_xscale("log")
    axes.set_yscale("log")
    for position, series in reversed([*enumerate(curve.series)]):  # the first on top
        shown = [point for point in series.points if point.low > 0]
        x = [point.x for point in shown]
        band(axes, x, [p.low for p in shown], [p.high for p in shown], position)
        draw_line(axes, lines[series.name], position, linewidth=2.0, alpha=1.0, marked=True)
    ideal = [(point.x, point.ideal) for point in curve.series[0].points if point.ideal > 0]
    axes.plot(*zip(*ideal, strict=True), color=INK, alpha=0.55, linewidth=1.4, dashes=(4, 3))
    label_axes(axes, _plain(curve.axis), _plain(curve.unit))
    _ticks(axes, [x for x, _ in ideal], [*_heights(curve)])
    return to_svg(figure)


def _heights(curve: ScalingCurve) -> Iterator[float]:
    """All figures that must be inside the frame."""
    for series in curve.series:
        for point in series.points:
            yield from (value for value in (point.low, point.high) if value > 0)
    yield from (point.ideal for point in curve.series[0].points if point.ideal > 0)


def _ticks(axes: Any, places: Sequence[float], heights: Sequence[float]) -> None:
    """Ticks at the measured points, and at round numbers on the vertical axis."""
    from matplotlib.ticker import NullFormatter, NullLocator

    bottom, top = min(heights) / MARGIN, max(heights) * MARGIN
    stretch = max(1.0, math.sqrt(MIN_SPAN * bottom / top))
    bottom, top = bottom / stretch, top * stretch
    axes.set_ylim(bottom, top)
    axes.set_yticks(values := round_numbers(bottom, top), map(_number, values))
    axes.set_xticks(places, map(_number, places))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_minor_locator(NullLocator())
        axis.set_minor_formatter(NullFormatter())


def round_numbers(bottom: float, top: float) -> list[float]:
    """At most 6 numbers from 1, 2 and 5 times powers of ten, or fewer kinds of them."""
    for kinds in ((1, 2, 5), (1, 3), (1,)):
        powers = range(math.floor(math.log10(bottom)), math.ceil(math.log10(top)) + 1)
        values = [kind * 10.0**power for power in powers for kind in kinds]
        inside = [value for value in values if bottom <= value <= top]
        if len(inside) <= 6:
            return inside
    steps = count(2)
    return next(part for step in steps if len(part := inside[::step]) <= 6)


def _number(value: float) -> str:
    """``250``, ``5k`` or ``0.02``."""
    return f"{value / 1000:g}k" if value >= 1000 and value % 100 == 0 else f"{value:g}"


def _plain(text: str) -> str:
    """Text without formulas: a record of others may hold a dollar sign."""
    return text.replace("$", r"\$")
