# SPDX-License-Identifier: Apache-2.0
"""``pippin bench --scaling``: curves of time and memory, as a record and as a page."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from pippin.bench.scaling.config import ScalingConfig
from pippin.bench.scaling.scaling_record import (
    CurveResult,
    PointResult,
    ScalingRecord,
    SeriesResult,
)
from pippin.cli.parsing.options import parse
from pippin.config import ConfigError
from pippin.system.text import print_text

if TYPE_CHECKING:
    from pippin.reports.figures.scaling_figures import ScalingCurve, ScalingPoint


@dataclass(frozen=True, kw_only=True)
class ScalingCommand:
    """Measure how time and memory grow with tokens, width, batch, text length, processes, data set
    and samples, against perfect scaling."""

    scaling: ScalingConfig = field(default_factory=ScalingConfig)
    out: Path | None = None
    """File for the record as JSON."""
    page: Path | None = None
    """File for the page, one HTML file with a figure of each curve."""
    record: Path | None = None
    """Record of an earlier measurement: draw its page and measure nothing."""


def scaling_main(argv: list[str]) -> int:
    """Parse, measure, print, and write.

    Raises:
        ValueError: a file that cannot be written, or options that exclude each other.
    """
    command = parse(ScalingCommand, "pippin bench --scaling", argv, ScalingCommand())
    _check(command)
    if command.record is not None:
        record = ScalingRecord.load(command.record)
    else:
        from rich.console import Console

        from pippin.bench.scaling.measure_scaling import measure_scaling

        record = measure_scaling(command.scaling, Console(stderr=True))
    _print(record)
    if command.out is not None:
        record.save(command.out)
        print_text(f"record: {command.out}")
    if command.page is not None:
        from pippin.reports.scaling_page import render_scaling

        curves = [page_curve(curve) for curve in record.curves]
        print_text(f"page: {render_scaling(curves, facts(record), record.settings, command.page)}")
    return 0


def _check(command: ScalingCommand) -> None:
    """Check the output files before the measurement."""
    if command.record is not None and (command.page is None or command.out is not None):
        raise ConfigError(
            f"--record {command.record} draws the page of an earlier measurement: give --page "
            "FILE.html beside it, and no --out"
        )
    for name in ("out", "page"):
        path = getattr(command, name)
        if path is not None and not path.parent.is_dir():
            raise ConfigError(f"--{name}: folder {path.parent} does not exist")
    if command.page is not None:
        from pippin.reports.scaling_page import check_scaling_page

        check_scaling_page(command.page)


def facts(record: ScalingRecord) -> list[str]:
    """Lines about machine, versions and load, for the head of the page."""
    machine = ", ".join(f"{name} {value}" for name, value in record.machine.items())
    versions = ", ".join(f"{name} {value}" for name, value in record.versions.items())
    load = " and ".join(f"{value:g}" for value in record.load_average)
    lines = [machine, versions, f"measured in {record.seconds / 60:.1f} minutes"]
    if load:
        lines[-1] += f"; load average of the machine before and after: {load}"
    return lines


def page_curve(curve: CurveResult) -> "ScalingCurve":
    """A curve of a record as reports draw it."""
    from pippin.reports.figures.scaling_figures import ScalingCurve, ScalingSeries

    return ScalingCurve(
        key=curve.key,
        title=curve.title,
        axis=curve.axis,
        unit=curve.unit,
        better=curve.better,
        law=curve.law,
        note=curve.note,
        series=tuple(
            ScalingSeries(name=series.name, points=tuple(map(_page_point, series.points)))
            for series in curve.series
        ),
        left_out=curve.left_out,
    )


def _page_point(point: PointResult) -> "ScalingPoint":
    from pippin.reports.figures.scaling_figures import ScalingPoint

    ratio = point.ratio
    return ScalingPoint(
        x=point.x,
        median=point.value.median,
        low=point.value.low,
        high=point.value.high,
        repetitions=point.value.windows,
        ideal=point.ideal,
        ratio=None if ratio is None else (ratio.median, ratio.low, ratio.high),
    )


def _print(record: ScalingRecord) -> None:
    from rich.table import Table

    from pippin.cli.tables import print_table

    for curve in record.curves:
        title = f"{curve.title}, {curve.unit}: measured (of ideal)"
        table = Table(curve.axis, *(series.name for series in curve.series), "ideal", title=title)
        for row in _rows(curve.series):
            table.add_row(*row)
        print_table(table)
        for text in curve.left_out:
            print_text(f"left out: {text}")


def _rows(series: Sequence[SeriesResult]) -> list[list[str]]:
    """One row for each point: the axis, every series, and the ideal of the first one."""
    if not series:
        return []
    columns = [[_value(point) for point in one.points] for one in series]
    return [
        [str(point.x), *(column[index] for column in columns), f"{point.ideal:.4g}"]
        for index, point in enumerate(series[0].points)
    ]


def _value(point: PointResult) -> str:
    return f"{point.value.median:.4g} ({point.of_ideal:.2f})"
