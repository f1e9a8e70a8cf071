# SPDX-License-Identifier: Apache-2.0
"""A page of scaling curves: a summary, and each curve as a figure with its table."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pippin.reports.figures.curves import Figure
from pippin.reports.figures.scaling_figures import (
    ScalingCurve,
    ScalingPoint,
    ScalingSeries,
    rounded,
    scaling_figure,
)
from pippin.reports.output_file import PAGE, check_output
from pippin.reports.page import write_page

READING = (
    "Points are medians over repetitions, bands and brackets the smallest and largest. The ideal "
    "starts at the first point, where fixed costs of a step weigh most: images/s may exceed it. "
    "Compare figures within this page: those of another machine, or under other load, differ."
)


@dataclass(frozen=True, kw_only=True)
class Cell:
    """Figure of a table, with remarks below it."""

    text: str
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Row:
    """A line of a table: its head, and a cell for each further column."""

    head: str
    cells: tuple[Cell, ...]


@dataclass(frozen=True, kw_only=True)
class CurveSection:
    """A curve as the page shows it."""

    curve: ScalingCurve
    figure: Figure
    heads: tuple[str, ...]
    rows: tuple[Row, ...]


def check_scaling_page(out: Path) -> None:
    """Refuse an output file before the measurement.

    Raises:
        ConfigError: another suffix than .html, or a file that is no page of pippin.
    """
    check_output(out, (PAGE,), "scaling curves")


def render_scaling(
    curves: Sequence[ScalingCurve], facts: Sequence[str], settings: Mapping[str, object], out: Path
) -> Path:
    """Write the page and return its path.

    Args:
        curves: as measured.
        facts: lines about machine, versions and load.
        settings: settings of the measurement by name.
        out: file to write.
    """
    measured = [curve for curve in curves if any(series.points for series in curve.series)]
    context = {
        "title": "Scaling of pippin",
        "facts": list(facts),
        "reading": READING,
        "summary_heads": SUMMARY,
        "summary": [summary_row(curve) for curve in measured],
        "sections": [_section(curve) for curve in measured],
        "unmeasured": [curve.title for curve in curves if curve not in measured],
        "settings": [
            Row(head=name, cells=(Cell(text=str(value)),)) for name, value in settings.items()
        ],
    }
    return write_page("scaling.html.jinja", context, out)


SUMMARY = ("Curve", "Axis", "First", "Last", "Last / ideal")
"""Columns of the summary."""


def summary_row(curve: ScalingCurve) -> Row:
    """Row of a curve in the summary: its own series from the first to the last point."""
    points = curve.series[0].points
    first, last = points[0], points[-1]
    return Row(
        head=curve.title,
        cells=(
            Cell(text=curve.axis, remarks=(f"{first.x:g} to {last.x:g}",)),
            Cell(text=f"{rounded(first.median)} {curve.unit}"),
            Cell(text=f"{rounded(last.median)} {curve.unit}"),
            Cell(text=f"{last.of_ideal:.2f}", remarks=(f"{curve.law}; {curve.better} is better",)),
        ),
    )


def _section(curve: ScalingCurve) -> CurveSection:
    names = [series.name for series in curve.series]
    columns = [f"{name}, {curve.unit}" if len(names) > 1 else curve.unit for name in names]
    points = {name: _by_place(series) for name, series in zip(names, curve.series, strict=True)}
    return CurveSection(
        curve=curve,
        figure=scaling_figure(curve),
        heads=(curve.axis, *columns, f"ideal of {names[0]}"),
        rows=tuple(
            Row(
                head=f"{place:g}",
                cells=(
                    *(_cell(points[name][place], names[0]) for name in names),
                    Cell(text=rounded(own.ideal)),
                ),
            )
            for place, own in points[names[0]].items()
        ),
    )


def _by_place(series: ScalingSeries) -> dict[float, ScalingPoint]:
    return {point.x: point for point in series.points}


def _cell(point: ScalingPoint, first: str) -> Cell:
    repeated = point.repetitions > 1
    spread = f" ({rounded(point.low)} to {rounded(point.high)})" if repeated else ""
    remarks = [f"{point.of_ideal:.2f} of ideal"]
    if point.ratio is not None:
        median, low, high = point.ratio
        span = f" ({low:.2f} to {high:.2f})" if repeated else ""
        remarks.append(f"{first} / this: {median:.2f}{span}")
    return Cell(text=f"{rounded(point.median)}{spread}", remarks=tuple(remarks))
