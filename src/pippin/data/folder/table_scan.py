# SPDX-License-Identifier: Apache-2.0
"""Usable images, classes and splits of a data set that was encoded from shards."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from pippin.data.folder.caption_files import sort_labels
from pippin.data.folder.image_table import NO_LABEL, ImageTable
from pippin.data.folder.listing import ONE_CLASS, SkippedImage
from pippin.data.source import held_out_places
from pippin.data.sources.openmoji_table import Split

SKIPPED = "skipped.jsonl"
"""File with the shard, row, key and reason of each sample that was skipped."""


def usable_images(
    folder: Path, min_side: int
) -> tuple[ImageTable, tuple[str, ...], list[SkippedImage]]:
    """Usable images with their class ids, the class names, and the skipped images.

    The rules are those of a folder of image files with the same metadata.

    Args:
        folder: folder with a table.
        min_side: minimum length of the shorter side in pixels.
    """
    table = ImageTable.load(folder)
    labels, shorter = (
        table.column("label"),
        np.minimum(table.column("height"), table.column("width")),
    )
    has_labels = bool(table.labels)
    small = shorter < min_side
    unlabelled = (labels == NO_LABEL) & has_labels & ~small
    skipped = [*_unreadable(folder)]
    for place in np.flatnonzero(small).tolist():
        detail = f"{shorter[place]} pixels on the shorter side; min_side is {min_side}"
        skipped.append(SkippedImage(name=table.name(place), reason="too small", detail=detail))
    for place in np.flatnonzero(unlabelled).tolist():
        detail = "its row has no class"
        skipped.append(SkippedImage(name=table.name(place), reason="no label", detail=detail))
    images = table.select(~small & ~unlabelled)
    if not has_labels:
        return images.with_classes(np.zeros(1, dtype=np.int64)), (ONE_CLASS,), skipped
    numbers = np.unique(images.column("label")).tolist()
    names = sort_labels(table.labels[number] for number in numbers)
    order = {name: class_id for class_id, name in enumerate(names)}
    class_ids = np.array([order.get(label, 0) for label in table.labels])
    return images.with_classes(class_ids), tuple(names), skipped


def split_table(images: ImageTable, held_out_share: float) -> dict[Split, ImageTable]:
    """Images of each split, as :func:`pippin.data.sources.images.split_images` finds them.

    Of the held-out images only those with a file remain.
    """
    digests = np.ascontiguousarray(images.column("sha256")).view("V32").reshape(-1)
    _, first, group = np.unique(digests, return_index=True, return_inverse=True)
    order = np.argsort(first)  # groups in the order of their first images
    names = (images.name(int(place)) for place in first[order])
    is_held_out = np.zeros(len(first), dtype=bool)
    is_held_out[order[held_out_places(names, held_out_share)]] = True
    held_out = is_held_out[group.reshape(-1)]
    return {
        "train": images.select(~held_out),
        "held-out": images.select(held_out & images.column("has_file")),
    }


def _unreadable(folder: Path) -> Iterator[SkippedImage]:
    """Images whose bytes could not be decoded."""
    with (folder / SKIPPED).open(encoding="utf-8") as lines:
        for line in lines:
            values: dict[str, Any] = json.loads(line)
            if name := values.get("file_name"):
                yield SkippedImage(name=name, reason=values["reason"], detail=values["detail"])
