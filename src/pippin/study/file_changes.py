# SPDX-License-Identifier: Apache-2.0
"""Detect files that changed between the measurements of a report.

Settings name weights and encoders by path. Each row records digests of the files at these paths,
so that a replaced file is detected. Rows of earlier versions have no digests and are skipped.
"""

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from pippin.run.folder import STUDY_RUN_PREFIX
from pippin.study.results import Row

TEXT = ("text.source", "text.layer", "text.combine")
"""Settings that name a text encoder."""


def changed_files(rows: Iterable[Row]) -> list[str]:
    """Messages about text encoders and initial weights whose files differ between runs.

    Args:
        rows: the rows of all runs.
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
            # The starts of a study are trained once for every seed.
            name = f"{run}, seed {row.seed}" if run.startswith(STUDY_RUN_PREFIX) else run
            starts[name].add(start)
    kinds = (("text.source", encoders), ("init.run", starts))
    return [
        f"{setting} {name} had different files in different runs ({_listed(digests)}): their "
        "numbers are of different models"
        for setting, digests_by_name in kinds
        for name, digests in digests_by_name.items()
        if len(digests) > 1
    ]


def mixed_weights(file: str, rows: Iterable[Row]) -> list[str]:
    """Message about a run that was trained between its evaluations, so that the newest rows of its
    metrics are of different weights; empty if there is none.

    Args:
        file: name of the run's results file.
        rows: the newest row of each metric.
    """
    names = ("model.weights", "model.images_seen", "model.sha256")
    weights: set[tuple[Any, ...]] = {
        tuple(row.protocol.get(name) for name in names) for row in rows if row.subject == "arm"
    }
    stated = {entry[:2] for entry in weights if entry[2]}
    # A row of an earlier version has no digest, and may be of the same weights.
    different = [entry for entry in weights if entry[0] and (entry[2] or entry[:2] not in stated)]
    if len(different) < 2:
        return []
    listed = sorted(f"{kind} at {images}, {str(digest)[:8]}" for kind, images, digest in different)
    return [
        f"{file}: mixes metrics of different weights of this run (weights at images seen, sha256: "
        f"{'; '.join(listed)}); evaluate the run again with all parts"
    ]


def _listed(digests: Iterable[str]) -> str:
    return ", ".join(sorted(digest[:8] for digest in digests))
