# SPDX-License-Identifier: Apache-2.0
"""The reference page of all metrics."""

from pippin.evaluation.metric import MetricKind
from pippin.evaluation.metric_registry import metric_kinds
from pippin.reports.headings import HEADINGS

HEAD = """# List of metrics

Every metric by the name that files hold, as reports explain it. The table is generated from the
declarations; words in braces stand for a control, a network of features, a number or another
metric. [Metrics](metrics.md) has definitions, preprocessing and intervals.
"""
DIRECTIONS = {"lower": "lower is better", "higher": "higher is better", "neither": "none"}


def metrics_page() -> str:
    """Kinds of metrics in Markdown, by their group in reports."""
    lines = [HEAD]
    for group, heading in HEADINGS.items():
        kinds = [kind for kind in metric_kinds() if kind.group == group]
        if kinds:
            lines += [f"\n## {heading}\n"]
            lines += ["| metric | explanation of the first example | unit | direction | part |"]
            lines += ["| --- | --- | --- | --- | --- |"]
            lines += [_row(kind) for kind in kinds]
    return "\n".join(lines) + "\n"


def _row(kind: MetricKind) -> str:
    metric = next(kind.examples())
    name = f"`{kind.name}`" if kind.name == metric.name else f"`{kind.name}`: `{metric}`"
    direction = "nearest to real images" if metric.target else DIRECTIONS[metric.better]
    part = f"`{kind.part}`" if kind.part else f"`{kind.command}`" if kind.command else ""
    settings = ", ".join(f"`{setting}`" for setting in kind.needs)
    where = " with ".join(filter(None, (part, settings))) or "always"
    return f"| {name} | {metric.description} | {metric.unit} | {direction} | {where} |"
