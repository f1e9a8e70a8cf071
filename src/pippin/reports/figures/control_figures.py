# SPDX-License-Identifier: Apache-2.0
"""Figures of control: drift against effect, and control profiles."""

from collections.abc import Mapping
from statistics import fmean
from typing import Any

from pippin.evaluation.control_words import control_label
from pippin.evaluation.metric import MetricKind
from pippin.evaluation.metric_registry import find_metric
from pippin.evaluation.metrics.declared.control_profile import PROFILE_POINT
from pippin.evaluation.metrics.declared.drift import DRIFT, EFFECT
from pippin.reports.figures.curves import (
    INK,
    Figure,
    LegendEntry,
    Points,
    canvas,
    draw_line,
    has_curve,
    label_axes,
    mean_line,
    single_values,
    to_svg,
)
from pippin.reports.report_source import Source

Runs = dict[tuple[str, int], dict[float, dict[MetricKind, float]]]
"""(arm, seed) -> scale of control guidance -> drift and effect."""


def tradeoffs(source: Source) -> list[Figure]:
    """One figure for each control whose drift was measured along control guidance."""
    table: dict[str, Runs] = {}
    for row in source.results.rows:
        metric = find_metric(row.metric)
        position = metric.position if metric.kind in (DRIFT, EFFECT) else None
        if position is None or position.along != "beta":
            continue
        if row.subject == "arm" and row.value is not None:
            points = table.setdefault(metric.control, {}).setdefault((row.arm, row.seed), {})
            points.setdefault(position.value, {})[metric.kind] = row.value
    return [_tradeoff(source, control, runs) for control, runs in table.items()]


def _tradeoff(source: Source, control: str, runs: Runs) -> Figure:
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
        title=f"Drift against effect ({control_label(control)})",
        caption=(
            f"from control guidance 0, where both are 0, over {', '.join(f'{b:g}' for b in betas)}"
            "; lower is less entangled; faint lines are single seeds, strong ones their means"
            + ("; the cross is real pairs" if real else "")
        ),
        svg=to_svg(figure),
        legend=tuple(ends),
        against="effect",
    )


def _curve(points: dict[float, dict[MetricKind, float]]) -> Points:
    """(effect, drift) in increasing order of beta, from the origin."""
    complete = [points[beta] for beta in sorted(points) if len(points[beta]) == 2]
    return [(0.0, 0.0), *((point[EFFECT], point[DRIFT]) for point in complete)]


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
    reference: dict[MetricKind, Any] = {}
    names = {kind(control=control).name: kind for kind in (EFFECT, DRIFT)}
    for row in source.results.rows:
        if row.subject == "real" and row.metric in names:
            reference[names[row.metric]] = row.value
    return (reference[EFFECT], reference[DRIFT]) if len(reference) == 2 else None


_READING_POINT = "error of the clean latent added by a wrong value, on held-out images"
_READING = (
    f"{_READING_POINT}, from high noise (left) "
    "to low; the control takes effect where the curve is high"
)


def control_profiles(source: Source) -> list[Figure]:
    """One figure for each control field, with a curve for each arm; for a single run, one figure
    with a curve for each field."""
    curves = _curves(source)
    if not curves:
        return []
    if len(source.declaration.arms) == 1:
        (arm,) = source.declaration.arms
        series = {control_label(field): arms[arm] for field, arms in curves.items() if arm in arms}
        return [_profile("Control profile", series)]
    return [
        _profile(
            f"Control profile ({control_label(field)})",
            {arm: arms.get(arm, []) for arm in source.declaration.arms},
        )
        for field, arms in curves.items()
    ]


def _curves(source: Source) -> dict[str, dict[str, list[Points]]]:
    """Field -> arm -> one curve for each seed, sorted by log-SNR."""
    points: dict[tuple[str, str, int], Points] = {}
    for row in source.results.rows:
        metric = find_metric(row.metric)
        if metric.kind is not PROFILE_POINT or row.subject != "arm" or row.value is None:
            continue
        assert metric.at is not None
        key = (metric.control, row.arm, row.seed)
        points.setdefault(key, []).append((metric.at, row.value))
    curves: dict[str, dict[str, list[Points]]] = {}
    for (field, arm, _), curve in points.items():
        curves.setdefault(field, {}).setdefault(arm, []).append(sorted(curve))
    return curves


def _profile(title: str, series: Mapping[str, list[Points]]) -> Figure:
    if not has_curve(curve for curves in series.values() for curve in curves):
        return single_values(title, _READING_POINT, series, "log-SNR")
    figure, axes = canvas()
    keys = []
    for position, (name, curves) in enumerate(series.items()):
        mean = mean_line(curves)
        for curve in curves if len(curves) > 1 else ():
            draw_line(axes, curve, position, linewidth=0.8, alpha=0.35)
        draw_line(axes, mean, position, linewidth=2.0, alpha=1.0)
        keys.append(LegendEntry(arm=name, position=position, end=_largest(mean)))
    label_axes(axes, "log-SNR", "added x0-error")
    many = max(map(len, series.values()), default=0) > 1
    seeds = "; faint lines are single seeds, strong ones their means" if many else ""
    return Figure(
        title=title,
        caption=_READING + seeds,
        svg=to_svg(figure),
        legend=tuple(keys),
        against="log-SNR",
        says="is largest,",
    )


def _largest(curve: Points) -> str:
    """The maximum of the curve and its position."""
    if not curve:
        return ""
    log_snr, value = max(curve, key=lambda point: point[1])
    return f"{value:.2g} at {log_snr:g}"
