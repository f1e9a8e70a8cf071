# SPDX-License-Identifier: Apache-2.0
"""Curves of sample quality during training, with the interval of each measure as a band."""

from typing import Any

from pippin.reports.figures.curves import (
    Figure,
    LegendEntry,
    Points,
    band,
    canvas,
    draw_line,
    has_curve,
    label_axes,
    mean_line,
    single_values,
    to_svg,
)
from pippin.reports.report_source import Run, Source

TITLES = {
    "kid": ("KID while training", "kernel distance of samples from real images; lower is better"),
    "fd": (
        "FD while training",
        "Frechet distance of samples from real images; lower is better. Its bias depends on the "
        "number of samples: compare values of one run only",
    ),
    "alignment": (
        "Alignment while training",
        "share of samples whose own caption is among the nearest; higher is better",
    ),
}
"""Key of a log's lines -> title and explanation."""
BAND = (
    "averaged weights, few samples with fixed seeds and conditions; bands are 95 % intervals over "
    "other samples of the same weights, not over training seeds"
)


def quality_curves(source: Source) -> list[Figure]:
    """One figure for each measure that any log holds."""
    arms = source.declaration.settings()
    figures = []
    for key, (title, words) in TITLES.items():
        runs = {arm: [run for run in source.runs if run.arm == arm] for arm in arms}
        series = {arm: [_points(run, key) for run in members] for arm, members in runs.items()}
        if any(points for lines in series.values() for points in lines):
            figures.append(_figure(key, title, f"{words}; {BAND}", runs, series))
    return figures


def _figure(
    key: str,
    title: str,
    caption: str,
    runs: dict[str, list[Run]],
    series: dict[str, list[Points]],
) -> Figure:
    if not has_curve(line for lines in series.values() for line in lines):
        return single_values(title, caption, series, "images seen")
    figure, axes = canvas()
    for position, (arm, lines) in enumerate(series.items()):
        for run, points in zip(runs[arm], lines, strict=True):
            _draw_band(axes, run, key, position)
            draw_line(axes, points, position, linewidth=0.8, alpha=0.35)
        draw_line(axes, mean_line(lines), position, linewidth=2.0, alpha=1.0)
    label_axes(axes, "images seen", title)
    axes.set_xlim(left=0)
    means = {arm: mean_line(lines) for arm, lines in series.items()}
    return Figure(
        title=title,
        caption=caption,
        svg=to_svg(figure),
        legend=tuple(
            LegendEntry(arm=arm, position=position, end=f"{line[-1][1]:.3g}" if line else "")
            for position, (arm, line) in enumerate(means.items())
        ),
    )


def _draw_band(axes: Any, run: Run, key: str, position: int) -> None:
    low, high = dict(_points(run, f"{key}_low")), dict(_points(run, f"{key}_high"))
    shared = sorted(low.keys() & high.keys())
    if len(shared) > 1:
        band(axes, shared, [low[x] for x in shared], [high[x] for x in shared], position)


def _points(run: Run, key: str) -> Points:
    samples = [(line["images"], line.get(key)) for line in run.log]
    return [(x, float(y)) for x, y in samples if isinstance(y, int | float) and abs(y) < 1e30]
