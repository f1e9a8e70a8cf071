# SPDX-License-Identifier: Apache-2.0
"""What an import took and what it did not, in one line."""

from collections.abc import Mapping

from pippin.data.import_names import shown
from pippin.data.importing import Imported

NAMES = {"image": "images", "text": "captions", "label": "classes"}
SHOWN = 12
"""Names that are listed of each kind."""


def summary(imported: Imported) -> str:
    """Columns taken, rows with image, caption and class, and what was not taken."""
    roles = dict.fromkeys(("image", "text", *sorted(imported.taken, key="label".__eq__)))
    columns = [
        f"{NAMES.get(role, role)} from {_counts(imported.taken[role])}"
        for role in roles
        if imported.taken[role]
    ]
    rows = imported.pictures + len(imported.lost)
    classes = f" ({len(imported.classes)} classes)" if imported.classes else ""
    parts = [
        *columns,
        f"{rows} rows: {imported.pictures} with image, {imported.captions} with caption, "
        f"{imported.labels} with class{classes}, {len(imported.lost)} skipped",
        f"not taken: {_counts(imported.unread) or 'nothing'}",
    ]
    if imported.statuses:
        parts.append(f"img2dataset: {_counts(imported.statuses)}")
    if imported.empty:
        parts.append(f"shards without rows: {imported.empty}")
    if imported.uncounted:
        parts.append(
            f"what was not taken of {imported.uncounted} shards is not known: an earlier version "
            "imported them"
        )
    return "; ".join(parts)


def _counts(counts: Mapping[str, int]) -> str:
    """Names with their counts, the most frequent first."""
    ordered = sorted(counts.items(), key=lambda pair: -pair[1])
    listed = [f"{shown(name)} ({count})" for name, count in ordered[:SHOWN]]
    more = ordered[SHOWN:]
    if more:
        listed.append(f"and {len(more)} more ({sum(count for _, count in more)})")
    return ", ".join(listed)
