# SPDX-License-Identifier: Apache-2.0
"""Rows of a shard in any format: cells by column, and the schema of the columns."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeAlias

BinaryFile: TypeAlias = Any
"""Open binary file: a Python file, or a file of ``fsspec``."""


class Row(NamedTuple):
    """One row of a table, or one sample of an archive."""

    cells: Mapping[str, Any]
    """Column or kind of member -> value; archive members are :class:`FileSlice`."""
    name: str = ""
    """Name in the source, for messages."""
    folder: str = ""
    """Folder of the sample inside an archive."""


@dataclass(frozen=True, kw_only=True)
class ShardSchema:
    """Columns of a shard, read from its beginning."""

    names: tuple[str, ...]
    """Names of columns or kinds of members; nested entries as ``COLUMN.ENTRY``."""
    images: tuple[str, ...] = ()
    """Columns declared as images."""
    classes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Column -> class names, for columns declared as class ids."""
    lists: frozenset[str] = frozenset()
    """Columns of lists."""
    dictionaries: frozenset[str] = frozenset()
    """Columns of dictionaries."""
    samples: tuple[tuple[str, ...], ...] | None = None
    """Kinds of members of each sample of an archive."""
    is_complete: bool = True
    """False if the shard may have other columns."""


@dataclass(kw_only=True)
class OpenShard:
    """Shard opened for reading."""

    rows: Iterator[Row]
    columns: tuple[str, ...] | None = None
    """All columns of a table; None = an archive, whose samples each have their own kinds."""
    classes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    unread: Counter[str] = field(default_factory=Counter)
    """Values outside any row -> count; complete after all rows are read."""


@dataclass(frozen=True)
class FileSlice:
    """Byte range of an open file, read on demand."""

    file: BinaryFile
    start: int
    num_bytes: int

    def read(self) -> bytes:
        """Read the range.

        Raises:
            EOFError: the file is too short.
        """
        self.file.seek(self.start)
        content = self.file.read(self.num_bytes)
        if len(content) < self.num_bytes:
            raise EOFError(f"the file ends at byte {self.start + len(content)}")
        return content
