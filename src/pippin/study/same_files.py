# SPDX-License-Identifier: Apache-2.0
"""Whether one name meant the same files in all rows of a report.

Settings name weights and encoders by where they lie. What lay there is recorded beside each
number, so that a file which was replaced between two measurements is found. Rows of earlier
versions record nothing, and are left out here.
"""

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from pippin.run.folder import START
from pippin.study.results import Row

TEXT = ("text.source", "text.layer", "text.combine")
"""Settings that name a text encoder."""


def changed_files(rows: Iterable[Row]) -> list[str]:
    """What to say of a study whose runs name the same text encoder, or the same weights to start
    from, and read other files there.

    Args:
        rows: of all runs.
    """
    encoders: dict[str, set[str]] = defaultdict(set)
    starts: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        text, start = (
            row.protocol.get(f"measure.model.{name}") for name in ("text_encoder", "start")
        )
        if text is not None:
            encoders[str([row.protocol.get(path) for path in TEXT])].add(text)
        run = row.protocol.get("init.run")
        if start is not None and run is not None:
            # A study's own runs to start from are trained once for every seed.
            name = f"{run}, seed {row.seed}" if run.startswith(START) else run
            starts[name].add(start)
    kinds = (("text.source", encoders), ("init.run", starts))
    return [
        f"{setting} {name} held other files in some runs than in others ({_listed(digests)}): "
        "their numbers are of different models"
        for setting, found in kinds
        for name, digests in found.items()
        if len(digests) > 1
    ]


def of_several_weights(file: str, rows: Iterable[Row]) -> list[str]:
    """What to say where a run was trained further, or anew, between its evaluations: the newest
    line of each measure may then be of other weights.

    Args:
        file: name of the run's results.
        rows: the newest one of each measure.
    """
    names = ("model.weights", "model.images_seen", "model.sha256")
    found: set[tuple[Any, ...]] = {
        tuple(row.protocol.get(name) for name in names) for row in rows if row.subject == "arm"
    }
    stated = {one[:2] for one in found if one[2]}
    # A line of an earlier version has no digest, and may be of the same weights.
    different = [one for one in found if one[0] and (one[2] or one[:2] not in stated)]
    if len(different) < 2:
        return []
    listed = sorted(f"{kind} at {images}, {str(digest)[:8]}" for kind, images, digest in different)
    return [
        f"{file}: measures of different weights of this run stand beside one another (weights at "
        f"images seen, sha256: {'; '.join(listed)}); evaluate it again with all parts"
    ]


def _listed(digests: Iterable[str]) -> str:
    return ", ".join(sorted(one[:8] for one in digests))
