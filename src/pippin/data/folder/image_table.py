# SPDX-License-Identifier: Apache-2.0
"""Table of the images of a data set that was encoded from shards, without unpacking them.

Such a folder has ``metadata.jsonl`` as an import has, files of a sample of its images, and this
table: one row of numbers for each image, memory-mapped, so that millions of images take little
memory. Captions stay in ``metadata.jsonl`` and are read by the position of their line.
"""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, overload

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import safe_open

from pippin.control import Size
from pippin.data.folder.caption_files import NotTextError, clean_caption
from pippin.data.folder.scanned import ScannedImage
from pippin.images.files import ConversionRule
from pippin.system.formats import FORMATS, VERSION, check_format
from pippin.system.tensors import save_tensors

TABLE = ".parts/images.safetensors"
"""Table in a folder of images; only folders that were prepared from shards have it."""
METADATA = "metadata.jsonl"
LINE_BYTES = 4096
"""Bytes of metadata.jsonl that are read at once."""
KIND = "image table"
"""Key in :data:`pippin.system.formats.FORMATS`."""
NO_LABEL = -1
Columns = dict[str, NDArray[Any]]
"""``shard``, ``row``, ``suffix``, ``sha256``, ``height``, ``width``, ``rules``, ``label``,
``line`` and ``has_file``, one entry for each image in the order of names."""


def has_table(folder: Path) -> bool:
    """True if the images of a folder were encoded from shards."""
    return (folder / TABLE).is_file()


def image_number(shard: int, row: int) -> int:
    """Number of an image, in the order of names: its shard, then its row."""
    return shard << 32 | row


def save_table(folder: Path, columns: Columns, texts: Mapping[str, Any]) -> None:
    """Write the table, atomically.

    Args:
        folder: folder of the images.
        columns: one array of equal length for each column.
        texts: ``suffixes``, ``rules`` and ``labels``, which the columns refer to by number, and
            ``captions``: kind of caption -> column of metadata.jsonl, which is complete.
    """
    path, num_bytes = folder / TABLE, (folder / METADATA).stat().st_size
    content = json.dumps({VERSION: FORMATS[KIND], **texts, "num_bytes": num_bytes})
    tensors = {name: torch.from_numpy(column) for name, column in columns.items()}
    save_tensors(path, tensors, metadata={"texts": content})


class _Store:
    """Columns of all images, and their texts."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with safe_open(folder / TABLE, framework="pt") as file:
            self.texts: dict[str, Any] = json.loads(file.metadata()["texts"])
            check_format(KIND, self.texts.get(VERSION), folder / TABLE)
            names = list(file.keys())
            self.columns: Columns = {name: file.get_tensor(name).numpy() for name in names}
        self.rules = [tuple(names) for names in self.texts["rules"]]
        if (folder / METADATA).stat().st_size != self.texts["num_bytes"]:
            raise ValueError(
                f"{folder / METADATA} has changed since the images were encoded from shards, and "
                f"the positions of its lines are lost: restore it, or remove {folder / TABLE} and "
                "type `pippin data prepare` again, which writes both"
            )

    @cached_property
    def _metadata(self) -> Any:
        return (self.folder / METADATA).open("rb")

    def line(self, offset: int) -> dict[str, Any]:
        """Row of metadata.jsonl at a byte offset."""
        line = b""
        while b"\n" not in line:  # pread: forked processes share the position of an open file
            part = os.pread(self._metadata.fileno(), LINE_BYTES, offset + len(line))
            if not part:
                break
            line += part
        values: dict[str, Any] = json.loads(line.partition(b"\n")[0])
        return values

    def __getstate__(self) -> dict[str, Any]:
        """Drop the open file: another process opens it itself."""
        return {name: value for name, value in vars(self).items() if name != "_metadata"}


class _Captions(Mapping[str, str]):
    """Captions of one image, read on first use."""

    def __init__(self, store: _Store, offset: int) -> None:
        self._store, self._offset = store, offset

    @cached_property
    def _captions(self) -> dict[str, str]:
        values, captions = self._store.line(self._offset), {}
        for kind, column in self._store.texts["captions"].items():
            try:
                caption = clean_caption(values.get(column))
            except NotTextError:  # an import writes text only
                continue
            if caption:
                captions[kind] = caption
        return captions

    def __getitem__(self, kind: str) -> str:
        return self._captions[kind]

    def __iter__(self) -> Iterator[str]:
        return iter(self._captions)

    def __len__(self) -> int:
        return len(self._captions)


class ImageTable(Sequence[ScannedImage]):
    """Images of a table, or some of them, in the order of names.

    Args:
        store: columns of all images.
        rows: rows of these images.
        class_ids: number of a label in the table -> class id.
    """

    def __init__(self, store: _Store, rows: NDArray[Any], class_ids: NDArray[Any]) -> None:
        self._store, self._rows, self._class_ids = store, rows, class_ids

    @classmethod
    def load(cls, folder: Path) -> "ImageTable":
        """All images of a folder; class ids are the numbers of labels in the table."""
        store = _Store(folder)
        rows, labels = np.arange(len(store.columns["row"])), len(store.texts["labels"])
        return cls(store, rows, np.arange(labels))

    @property
    def labels(self) -> tuple[str, ...]:
        """Labels of the table."""
        return tuple(self._store.texts["labels"])

    @property
    def caption_kinds(self) -> tuple[str, ...]:
        """Kinds of captions that any image has."""
        return tuple(self._store.texts["captions"])

    def column(self, name: str) -> NDArray[Any]:
        """Values of a column; see :data:`Columns`."""
        values: NDArray[Any] = self._store.columns[name][self._rows]
        return values

    def with_classes(self, class_ids: NDArray[Any]) -> "ImageTable":
        """The same images with other class ids."""
        return ImageTable(self._store, self._rows, class_ids)

    def select(self, places: NDArray[Any] | Sequence[int]) -> "ImageTable":
        """Some of these images, by place or by a boolean of each."""
        chosen = np.asarray(places)
        chosen = chosen if chosen.dtype == bool else chosen.astype(np.int64)  # an empty list
        return ImageTable(self._store, self._rows[chosen], self._class_ids)

    def numbers(self) -> torch.Tensor:
        """Number of each image; see :func:`image_number`."""
        shard, row = self.column("shard").astype(np.int64), self.column("row").astype(np.int64)
        return torch.from_numpy(shard << 32 | row)

    def class_ids(self) -> torch.Tensor:
        """Class id of each image."""
        return torch.from_numpy(self._class_ids[self.column("label")].astype(np.int64))

    def name(self, place: int) -> str:
        """Name of an image."""
        columns, row = self._store.columns, self._rows[place]
        suffix = self._store.texts["suffixes"][columns["suffix"][row]]
        return f"{columns['shard'][row]:05d}/{columns['row'][row]:07d}{suffix}"

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, place: int) -> ScannedImage: ...
    @overload
    def __getitem__(self, place: slice) -> "ImageTable": ...
    def __getitem__(self, place: int | slice) -> "ScannedImage | ImageTable":
        """Record of one image, or a range of them."""
        if isinstance(place, slice):
            return ImageTable(self._store, self._rows[place], self._class_ids)
        columns, row, name = self._store.columns, self._rows[place], self.name(place)
        rules: tuple[ConversionRule, ...] = self._store.rules[columns["rules"][row]]
        return ScannedImage(
            name=name,
            path=self._store.folder / name,
            label=int(self._class_ids[columns["label"][row]]),
            captions=_Captions(self._store, int(columns["line"][row])),
            size=Size(int(columns["height"][row]), int(columns["width"][row])),
            sha256=columns["sha256"][row].tobytes().hex(),
            rules=rules,
            has_file=bool(columns["has_file"][row]),
        )
