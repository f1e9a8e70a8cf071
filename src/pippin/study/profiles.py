# SPDX-License-Identifier: Apache-2.0
"""Control profiles: the x0-error added by a wrong value of a control, against log-SNR."""

from collections.abc import Mapping

from pippin.evaluation.control_words import control_label
from pippin.evaluation.metric_registry import find_metric
from pippin.evaluation.metrics.control_profile import PROFILE_POINT
from pippin.study.figures import (
    Figure,
    LegendEntry,
    Points,
    canvas,
    draw_line,
    label_axes,
    mean_line,
    to_svg,
)
from pippin.study.source import Source

_READING = (
    "error of the clean latent added by a wrong value, on held-out images, from high noise (left) "
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
        return [_figure("Control profile", series)]
    return [
        _figure(
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


def _figure(title: str, series: Mapping[str, list[Points]]) -> Figure:
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
