# SPDX-License-Identifier: Apache-2.0
"""Section of a model card on measures, each with its interval and protocol."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pippin.evaluation.metric_registry import find_metric
from pippin.publish.facts import CardFacts, is_private_path
from pippin.publish.markdown import cell, code_block
from pippin.studies.results import Row

SUBJECTS = {
    "arm": "these weights",
    "untrained": "untrained weights",
    "real": "held-out images",
}
"""Subject of a row -> what was measured, in words of a model card."""


def measures_section(facts: CardFacts) -> list[str]:
    """Table of the measures, and their protocols."""
    if not facts.measures:
        return [
            "No measures of these weights are recorded. `pippin evaluate` measures a run before "
            "it is exported or pushed."
        ]
    lines = [
        "| measure | of | value | 95 % interval | N | better | protocol |",
        "| --- | --- | --- | --- | --- | --- | --- |",
        *(_line(row) for row in facts.measures),
        "",
        "Numbers may be compared only where their protocols are equal. Intervals do not include "
        "the variation between training seeds.",
    ]
    if facts.dtype != "float32":
        lines.append(f"They were measured before the weights were rounded to {facts.dtype}.")
    return [*lines, "", *_protocols(facts.measures)]


def _line(row: Row) -> str:
    metric = find_metric(row.metric)
    value = "not finite" if row.value is None else f"{row.value:.4g}"
    interval = ""
    if row.low is not None and row.high is not None:
        interval = f"{row.low:.4g} to {row.high:.4g} ({row.interval_over})"
    subject = SUBJECTS[row.subject]
    cells = (metric.label, subject, f"{value} {row.unit}".strip(), interval, row.n, row.better)
    return f"| {' | '.join(map(cell, cells))} | `{row.fingerprint[:8]}` |"


def _protocols(rows: Sequence[Row]) -> Iterator[str]:
    """Entries that the protocols share, and those of each, without paths of the author."""
    protocols = {row.fingerprint: row.protocol for row in rows}
    first = next(iter(protocols.values()))
    shared = {
        path: value
        for path, value in first.items()
        if all(path in other and other[path] == value for other in protocols.values())
    }
    yield "<details><summary>Protocols</summary>"
    yield ""
    for title, values in [("shared", shared)] + [
        (digest[:8], {path: value for path, value in own.items() if path not in shared})
        for digest, own in protocols.items()
    ]:
        public = {path: value for path, value in values.items() if not _has_path(value)}
        yield f"{title}:"
        yield ""
        yield from code_block("json", json.dumps(public, indent=1, default=str))
        yield ""
    yield "</details>"


def _has_path(value: Any) -> bool:
    """Whether a setting, or a value inside it, is a path of the author's machine."""
    if isinstance(value, Mapping):
        return any(map(_has_path, value.values()))
    if isinstance(value, list | tuple):
        return any(map(_has_path, value))
    return isinstance(value, str) and is_private_path(value)
