# SPDX-License-Identifier: Apache-2.0
"""One-line report of an import: imported and ignored columns and rows."""

from collections.abc import Mapping

from pippin.data.import_names import printable
from pippin.data.importing import ImportResult

NAMES = {"image": "images", "text": "captions", "label": "classes"}
SHOWN = 12
"""Maximum number of names listed of each kind."""


def summary(imported: ImportResult) -> str:
    """ImportResult columns, counts of rows with image, caption and class, and ignored values."""
    roles = dict.fromkeys(("image", "text", *sorted(imported.taken, key="label".__eq__)))
    columns = [
        f"{NAMES.get(role, role)} from {_counts(imported.taken[role])}"
        for role in roles
        if imported.taken[role]
    ]
    rows = imported.images + len(imported.skipped)
    classes = f" ({len(imported.classes)} classes)" if imported.classes else ""
    parts = [
        *columns,
        f"{rows} rows: {imported.images} with image, {imported.captions} with caption, "
        f"{imported.labels} with class{classes}, {len(imported.skipped)} skipped",
        f"ignored: {_counts(imported.unread) or 'nothing'}",
    ]
    if imported.statuses:
        parts.append(f"img2dataset: {_counts(imported.statuses)}")
    if imported.empty:
        parts.append(f"shards without rows: {imported.empty}")
    if imported.uncounted:
        parts.append(
            f"ignored values of {imported.uncounted} shards are unknown: an earlier version "
            "imported them"
        )
    return "; ".join(parts)


def _counts(counts: Mapping[str, int]) -> str:
    """Names with their counts, the most frequent first."""
    ordered = sorted(counts.items(), key=lambda pair: -pair[1])
    listed = [f"{printable(name)} ({count})" for name, count in ordered[:SHOWN]]
    more = ordered[SHOWN:]
    if more:
        listed.append(f"and {len(more)} more ({sum(count for _, count in more)})")
    return ", ".join(listed)
