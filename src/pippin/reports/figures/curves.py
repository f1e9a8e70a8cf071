# SPDX-License-Identifier: Apache-2.0
"""Learning curves as SVG that takes the page's colours."""

import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

import numpy as np

from pippin.reports.figures.loss_words import (
    LossWords,
    held_out_loss_words,
    training_loss_words,
)
from pippin.reports.inline import figure_html
from pippin.reports.report_source import Run, Source

COLOURS = 6
"""Number of distinct colours of arms: ``--arm-0`` ... in report.css."""
DASHES = ((), (6, 2.5), (1.5, 2), (6, 2, 1.5, 2))
"""Lengths of strokes and gaps, in line widths; empty is a solid line."""
INK = "#010203"
"""Placeholder for the page's text colour until the SVG is written, as for the arms' colours."""
SMOOTHING = 0.05
"""Curves are running means over this share of the run."""
START = 0.15
"""Share of the run that does not set the scale: its large losses would flatten the rest."""

_FRAME = "; the beginning may lie outside the frame"
Points = list[tuple[float, float]]

TRAINING, HELD_OUT = "loss", "held_out_loss"
"""Keys of a log's lines."""


@dataclass(frozen=True, kw_only=True)
class LegendEntry:
    """One line of a legend."""

    arm: str
    position: int
    end: str
    """The curve's last value or another summary of it; empty for an arm without a curve."""


@dataclass(frozen=True, kw_only=True)
class Figure:
    """An SVG drawing with its title, caption and legend."""

    title: str
    caption: str
    svg: str = field(repr=False)
    legend: tuple[LegendEntry, ...]
    against: str = "images seen"
    """Quantity of the horizontal axis."""
    says: str = "ends at"
    """Words before each :attr:`LegendEntry.end`."""
    sentence: str = ""
    """All values in words, where each curve has one point; the page then shows no drawing."""

    def _repr_html_(self) -> str:
        """The figure in a notebook."""
        return figure_html(self)

    @property
    def alt(self) -> str:
        """Text alternative of the SVG drawing."""
        ends = (f"{key.arm} {self.says} {key.end}" for key in self.legend if key.end)
        return f"{self.title} against {self.against}: {'; '.join(ends)}"


def colour(position: int) -> str:
    """The CSS colour of the arm at this position, which depends on the page's colour scheme."""
    return f"var(--arm-{position % COLOURS})"


def _placeholder(position: int) -> str:
    return f"#0203{position % COLOURS:02x}"


def dashes(position: int) -> tuple[float, ...]:
    """The dash pattern of the arm at this position, which distinguishes arms without colour."""
    return DASHES[position % len(DASHES)]


def learning_curves(source: Source) -> list[Figure]:
    """Training loss and held-out loss, each on its own axes, as far as any log holds them."""
    arms = source.declaration.settings()
    words = {
        TRAINING: ("Training loss", training_loss_words(arms)),
        HELD_OUT: ("Held-out loss", held_out_loss_words(list(arms.values()))),
    }
    figures = []
    for key, (title, of_loss) in words.items():
        series = {
            arm: [_points(run, key) for run in source.runs if run.arm == arm] for arm in arms
        }
        if any(points for lines in series.values() for points in lines):
            figures.append(_figure(f"{title} ({of_loss.name})", of_loss, series))
    return figures


def _figure(title: str, words: LossWords, series: dict[str, list[Points]]) -> Figure:
    if not has_curve(line for lines in series.values() for line in lines):
        return single_values(title, words.explanation, series, "images seen")
    smoothed = {arm: [smooth(points) for points in lines] for arm, lines in series.items()}
    many = max(map(len, series.values()), default=0) > 1
    seeds = "; faint lines are single seeds, strong lines their means" if many else ""
    means = {arm: mean_line(lines) for arm, lines in smoothed.items()}
    return Figure(
        title=title,
        caption=f"{words.explanation}; smoothed over {SMOOTHING:.0%} of the run{seeds}{_FRAME}",
        svg=_draw(words.name, smoothed),
        legend=tuple(
            LegendEntry(arm=arm, position=position, end=f"{line[-1][1]:.3g}" if line else "")
            for position, (arm, line) in enumerate(means.items())
        ),
    )


def has_curve(lines: Iterable[Points]) -> bool:
    """True if any line has two points or more; a single one would be drawn as an empty frame."""
    return any(len(points) > 1 for points in lines)


def single_values(
    title: str, caption: str, series: Mapping[str, Sequence[Points]], against: str
) -> Figure:
    """Values of curves of one point each, as a sentence in the place of a drawing."""
    texts = {
        arm: [f"{y:.3g} at {_place(x, against)}" for points in lines for x, y in points]
        for arm, lines in series.items()
    }
    measured = {arm: ", ".join(dict.fromkeys(values)) for arm, values in texts.items() if values}
    if len(series) == 1:
        sentence = "".join(measured.values())
    else:
        sentence = "; ".join(f"{arm}: {values}" for arm, values in measured.items())
    return Figure(
        title=title,
        caption=caption,
        svg="",
        legend=(),
        against=against,
        sentence=f"{sentence} (measured once, so there is no curve).",
    )


def _place(x: float, against: str) -> str:
    """``1,000 images seen`` or ``log-SNR -2``."""
    return f"{x:,.0f} {against}" if against == "images seen" else f"{against} {x:g}"


def _points(run: Run, key: str) -> Points:
    samples = [(line["images"], line.get(key)) for line in run.log]
    return [(x, float(y)) for x, y in samples if isinstance(y, int | float) and abs(y) < 1e30]


def smooth(points: Points) -> Points:
    """Running mean over a window of :data:`SMOOTHING` of the run, centred at each point."""
    if not points:
        return []
    x, y = np.array(points).T
    reach = SMOOTHING * x[-1] / 2
    sums = np.concatenate([[0.0], np.cumsum(y)])
    first, last = np.searchsorted(x, x - reach), np.searchsorted(x, x + reach, side="right")
    means = (sums[last] - sums[first]) / (last - first)
    return list(zip(x.tolist(), means.tolist(), strict=True))


def mean_line(lines: Sequence[Points]) -> Points:
    """The mean over the lines at those x where all of them have a point."""
    tables = [dict(points) for points in lines if points]
    if not tables:
        return []
    shared = [x for x in tables[0] if all(x in table for table in tables)]
    return [(x, fmean(table[x] for table in tables)) for x in shared]


def _draw(vertical: str, series: dict[str, list[Points]]) -> str:
    """SVG drawing of the smoothed lines of each arm and of their means."""
    figure, axes = canvas()
    tops = []
    for position, smoothed in enumerate(series.values()):
        tops += [y for points in smoothed for x, y in points if x >= START * points[-1][0]]
        for points in smoothed:
            draw_line(axes, points, position, linewidth=0.8, alpha=0.35)
        draw_line(axes, mean_line(smoothed), position, linewidth=2.0, alpha=1.0)
    _style(axes, vertical, tops)
    return to_svg(figure)


def canvas() -> tuple[Any, Any]:
    """An empty figure and its axes."""
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure as Canvas

    figure = Canvas(figsize=(4.8, 3.0), layout="constrained")
    FigureCanvasSVG(figure)
    return figure, figure.add_subplot()


def draw_line(
    axes: Any,
    points: Points,
    position: int,
    *,
    linewidth: float,
    alpha: float,
    marked: bool = False,
) -> None:
    """Draw one line in the colour and dash pattern of the arm at this position.

    Args:
        marked: mark every point, as of few measurements.
    """
    if points:
        axes.plot(
            *zip(*points, strict=True),
            color=_placeholder(position),
            linestyle=(0, dashes(position)) if dashes(position) and alpha == 1.0 else "solid",
            linewidth=linewidth,
            alpha=alpha,
            solid_capstyle="round",
            marker="o" if marked or len(points) == 1 else "",  # a line of one is invisible
            markersize=4 if marked else None,
        )


def band(
    axes: Any, x: Sequence[float], low: Sequence[float], high: Sequence[float], position: int
) -> None:
    """Fill the area between two lines in the colour of the arm at this position."""
    axes.fill_between(x, low, high, color=_placeholder(position), alpha=0.15, linewidth=0)


def _style(axes: Any, vertical: str, values: list[float]) -> None:
    label_axes(axes, "images seen", vertical)
    axes.xaxis.set_major_formatter(lambda x, _: f"{x / 1000:g}k" if x >= 1000 else f"{x:g}")
    axes.set_xlim(left=0)
    if len(set(values)) > 1:
        margin = 0.06 * (max(values) - min(values))
        axes.set_ylim(min(values) - margin, max(values) + margin)


def label_axes(axes: Any, horizontal: str, vertical: str) -> None:
    """Set labels, ticks and frame in the common style of a page's figures."""
    axes.set_xlabel(horizontal, color=INK, fontsize=11)
    axes.set_ylabel(vertical, color=INK, fontsize=11)
    axes.tick_params(colors=INK, labelsize=10, length=3)
    axes.grid(axis="y", color=INK, alpha=0.12, linewidth=0.7)
    axes.patch.set_alpha(0)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(INK)
        axes.spines[side].set_alpha(0.4)


def to_svg(figure: Any) -> str:
    """The SVG drawing without prologue and metadata, with text as text elements."""
    import matplotlib

    buffer = io.StringIO()
    nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "pippin"}):
        figure.savefig(buffer, format="svg", transparent=True, metadata=nothing)
    text = buffer.getvalue()
    text = text[text.index("<svg") :].replace(INK, "currentColor")
    for position in range(COLOURS):
        text = text.replace(_placeholder(position), colour(position))
    return text.replace("<svg ", '<svg aria-hidden="true" ', 1)
