# SPDX-License-Identifier: Apache-2.0
"""Drift against effect along control guidance: one curve for each arm, starting at (0, 0)."""

import re
from statistics import fmean
from typing import Any

from pippin.study.figures import (
    INK,
    Figure,
    LegendEntry,
    Points,
    canvas,
    draw_line,
    label_axes,
    to_svg,
)
from pippin.study.glossary import control_name
from pippin.study.results import Row
from pippin.study.source import Source

_POINT = re.compile(r"(drift|effect) (\w+) at beta (\S+)")


def tradeoffs(source: Source) -> list[Figure]:
    """One figure for each control whose drift was measured along control guidance."""
    table: dict[str, dict[tuple[str, int], dict[float, dict[str, float]]]] = {}
    for row in source.results.rows:
        match = _POINT.fullmatch(row.metric)
        if match and row.subject == "arm" and row.value is not None:
            kind, control, beta = match.groups()
            runs = table.setdefault(control, {})
            runs.setdefault((row.arm, row.seed), {}).setdefault(float(beta), {})[kind] = row.value
    return [_figure(source, control, runs) for control, runs in table.items()]


def _figure(
    source: Source, control: str, runs: dict[tuple[str, int], dict[float, dict[str, float]]]
) -> Figure:
    lines = {
        arm: [_curve(points) for (name, _), points in sorted(runs.items()) if name == arm]
        for arm in source.declaration.arms
    }
    figure, axes = canvas()
    ends = []
    for position, (arm, curves) in enumerate(lines.items()):
        for curve in curves:
            draw_line(axes, curve, position, linewidth=0.8, alpha=0.35)
        mean = _mean(curves)
        draw_line(axes, mean, position, linewidth=2.0, alpha=1.0)
        ends.append(LegendEntry(arm=arm, position=position, end=_end(mean)))
    real = _real(source, control)
    if real:
        axes.plot(*real, marker="+", markersize=11, markeredgewidth=2, color=INK)
    label_axes(axes, "effect", "drift")
    axes.set_xlim(left=min(0.0, *(x for curves in lines.values() for c in curves for x, _ in c)))
    axes.set_ylim(bottom=0)
    betas = sorted({beta for points in runs.values() for beta in points})
    return Figure(
        title=f"Drift against effect ({control_name(control)})",
        caption=(
            f"from control guidance 0, where both are 0, over {', '.join(f'{b:g}' for b in betas)}"
            "; lower is less entangled; faint lines are single seeds, strong ones their means"
            + ("; the cross is real pairs" if real else "")
        ),
        svg=to_svg(figure),
        legend=tuple(ends),
        against="effect",
    )


def _curve(points: dict[float, dict[str, float]]) -> Points:
    """(effect, drift) in increasing order of beta, from the origin."""
    complete = [points[beta] for beta in sorted(points) if len(points[beta]) == 2]
    return [(0.0, 0.0), *((point["effect"], point["drift"]) for point in complete)]


def _mean(curves: list[Points]) -> Points:
    """The pointwise mean over the seeds; empty if they differ in the number of points."""
    if not curves or len({len(curve) for curve in curves}) > 1:
        return []
    return [
        (fmean(x for x, _ in points), fmean(y for _, y in points))
        for points in zip(*curves, strict=True)
    ]


def _end(mean: Points) -> str:
    return f"{mean[-1][1]:.2g} at {mean[-1][0]:.2g}" if mean else ""


def _real(source: Source, control: str) -> tuple[float, float] | None:
    """Effect and drift of real pairs."""
    reference: dict[str, Any] = {}
    rows: tuple[Row, ...] = source.results.rows
    for row in rows:
        for kind in ("effect", "drift"):
            if row.subject == "real" and row.metric == f"{kind} {control}":
                reference[kind] = row.value
    return (reference["effect"], reference["drift"]) if len(reference) == 2 else None
