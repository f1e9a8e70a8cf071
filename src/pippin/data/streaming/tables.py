# SPDX-License-Identifier: Apache-2.0
"""Tables of a folder whose shards have all been encoded: metadata, images and skipped samples."""

import json
from array import array
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

import numpy as np

from pippin.data.config import ImagesConfig
from pippin.data.folder.caption_files import label_number
from pippin.data.folder.image_table import METADATA, NO_LABEL, Columns, save_table
from pippin.data.folder.metadata_columns import LABEL, caption_columns
from pippin.data.folder.table_scan import SKIPPED
from pippin.data.importing.import_sources import Shard
from pippin.data.importing.importer import summary, write_metadata
from pippin.data.importing.parts import PARTS, Part, read_part
from pippin.data.streaming.shard_source import ShardSource
from pippin.system.files import atomic_write, write_text
from pippin.system.redaction import strip_url_secrets

SUMMARY = "summary.txt"
"""File in ``.parts`` with the counts that were printed."""


def write_tables(source: ShardSource, data: ImagesConfig) -> None:
    """Write metadata.jsonl, skipped.jsonl and the table of images, from the records of shards.

    One record is in memory at a time. The content depends on the records only.

    Args:
        source: a source whose shards are all complete.
        data: settings with the minimum size of an image.
    """
    imported = write_metadata(source.config, source.shards, source.folder, 0)
    reasons, kept = _write_skipped(source, data), _write_images(source)
    counts = ", ".join(f"{reason} ({count})" for reason, count in reasons.most_common())
    text = f"{summary(imported)}; {kept} image files kept; skipped: {counts or 'none'}"
    write_text(source.folder / PARTS / SUMMARY, f"{text}\n")


def _parts(source: ShardSource) -> Iterator[tuple[Shard, Part]]:
    for shard in source.shards:
        part = read_part(shard, source.folder, sizes=False)
        assert part is not None and part.files is not None
        yield shard, part


def _write_skipped(source: ShardSource, data: ImagesConfig) -> Counter[str]:
    """Write one line for each skipped sample; returns the count of each reason."""
    reasons: Counter[str] = Counter()
    with (
        atomic_write(source.folder / SKIPPED) as staging,
        staging.open("w", encoding="utf-8") as file,
    ):
        for shard, part in _parts(source):
            for values in _skipped(part, data.min_side):
                reasons[values["reason"]] += 1
                line = {"shard": _shown(shard)} | values
                file.write(json.dumps(line, ensure_ascii=False) + "\n")
    return reasons


def _skipped(part: Part, min_side: int) -> Iterator[dict[str, Any]]:
    """Skipped samples of a shard: those without an image, then those with an unusable one."""
    for values in part.skipped:
        reason, _, detail = values["reason"].partition(": ")
        yield {**values, "reason": reason, "detail": detail}
    for row, file in zip(part.rows, part.files or (), strict=True):
        number = int(PurePosixPath(row["file_name"]).stem)
        values = {"row": number, "key": file["key"]}
        size = f"{file['height']} x {file['width']} pixels (height x width)"
        if file["reason"] is not None:
            fault = {"reason": file["reason"], "detail": file["detail"]}
            yield values | fault | {"file_name": row["file_name"]}
        elif min(file["height"], file["width"]) < min_side:
            yield values | {"reason": "too small", "detail": f"{size}; min_side is {min_side}"}


def _shown(shard: Shard) -> str:
    return strip_url_secrets(getattr(shard, "place", shard.identity))


def _write_images(source: ShardSource) -> int:
    """Write the table of all images that could be decoded; returns the number of kept files."""
    table = _Table()
    with (source.folder / METADATA).open("rb") as lines:
        for shard, part in _parts(source):
            for file in part.files or ():
                offset = lines.tell()
                values = json.loads(lines.readline())
                table.names.update(dict.fromkeys(values))
                if file["reason"] is None:
                    table.add(shard.index, values, file, offset)
    save_table(source.folder, table.columns(), table.texts())
    return sum(table.has_file)


@dataclass
class _Table:
    """Columns in the making; see :data:`pippin.data.folder.image_table.Columns`."""

    names: dict[str, None] = field(default_factory=dict)
    """Columns of metadata.jsonl."""
    shard: "array[int]" = field(default_factory=lambda: array("i"))
    row: "array[int]" = field(default_factory=lambda: array("i"))
    height: "array[int]" = field(default_factory=lambda: array("i"))
    width: "array[int]" = field(default_factory=lambda: array("i"))
    suffix: "array[int]" = field(default_factory=lambda: array("i"))
    rules: "array[int]" = field(default_factory=lambda: array("i"))
    label: "array[int]" = field(default_factory=lambda: array("i"))
    line: "array[int]" = field(default_factory=lambda: array("q"))
    has_file: "array[int]" = field(default_factory=lambda: array("b"))
    sha256: bytearray = field(default_factory=bytearray)
    _suffixes: dict[str, int] = field(default_factory=dict)
    _rules: dict[tuple[str, ...], int] = field(default_factory=dict)
    _labels: dict[str, int] = field(default_factory=dict)

    def add(self, shard: int, values: dict[str, Any], file: dict[str, Any], offset: int) -> None:
        """Add one image.

        Args:
            shard: index of its shard.
            values: its row of metadata.jsonl.
            file: facts about its file.
            offset: position of the row in bytes.
        """
        path, label = PurePosixPath(values["file_name"]), values.get(LABEL)
        self.shard.append(shard)
        self.row.append(int(path.stem))
        self.height.append(file["height"])
        self.width.append(file["width"])
        self.suffix.append(_number(self._suffixes, path.suffix))
        self.rules.append(_number(self._rules, tuple(file["rules"])))
        self.label.append(NO_LABEL if label is None else _number(self._labels, label))
        self.line.append(offset)
        self.has_file.append(file["has_file"])
        self.sha256 += bytes.fromhex(file["sha256"])

    def columns(self) -> Columns:
        """All columns; "nan" is no class if all other classes are numbers."""
        names = ("shard", "row", "suffix", "height", "width", "rules", "label", "line")
        columns = {name: np.array(getattr(self, name)) for name in names}
        columns["has_file"] = np.array(self.has_file, dtype=bool)
        columns["sha256"] = np.frombuffer(self.sha256, dtype=np.uint8).reshape(-1, 32)
        empty = {label for label in self._labels if label.casefold() == "nan"}
        if all(label_number(label) is not None for label in self._labels.keys() - empty):
            for label in empty:
                columns["label"][columns["label"] == self._labels[label]] = NO_LABEL
        return columns

    def texts(self) -> dict[str, Any]:
        """Texts that the columns refer to by number."""
        return {
            "suffixes": list(self._suffixes),
            "rules": [list(rules) for rules in self._rules],
            "labels": list(self._labels),
            "captions": caption_columns(self.names),
        }


def _number(numbers: dict[Any, int], value: Any) -> int:
    """Number of a value, in the order in which values come."""
    return numbers.setdefault(value, len(numbers))
