# SPDX-License-Identifier: Apache-2.0
"""Rows of a shard, whatever its format: cells by column, and what is known of the columns."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeAlias

BinaryFile: TypeAlias = Any
"""An open file of bytes: Python's own, or one of the many kinds of ``fsspec``."""


class Row(NamedTuple):
    """One row of a table, or one sample of an archive."""

    cells: Mapping[str, Any]
    """Column or kind of member -> value; of members of archives :class:`Stored`."""
    name: str = ""
    """What the source calls it, for messages."""
    folder: str = ""
    """That it lies in, inside an archive."""


@dataclass(frozen=True, kw_only=True)
class Look:
    """What the beginning of a shard tells of its columns."""

    names: tuple[str, ...]
    """Of columns, or kinds of members; entries inside of them as ``COLUMN.ENTRY``."""
    images: tuple[str, ...] = ()
    """Columns that are declared to hold images."""
    classes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Column -> names of its classes, where it is declared to hold their numbers."""
    lists: frozenset[str] = frozenset()
    """Columns of several values a row."""
    dictionaries: frozenset[str] = frozenset()
    """Columns of named entries."""
    samples: tuple[tuple[str, ...], ...] | None = None
    """Of an archive: the kinds of each sample."""
    is_whole: bool = True
    """Whether there are no other columns in the shard."""


@dataclass(kw_only=True)
class OpenShard:
    """A shard while it is read."""

    rows: Iterator[Row]
    columns: tuple[str, ...] | None = None
    """All of a table; None = an archive, of which each sample has its own kinds."""
    classes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    unread: Counter[str] = field(default_factory=Counter)
    """What belongs to no row -> how many; complete when all rows are read."""


@dataclass(frozen=True)
class Stored:
    """Bytes in an open file, read when they are needed."""

    file: BinaryFile
    start: int
    num_bytes: int

    def read(self) -> bytes:
        """All of them.

        Raises:
            EOFError: the file is shorter.
        """
        self.file.seek(self.start)
        content = self.file.read(self.num_bytes)
        if len(content) < self.num_bytes:
            raise EOFError(f"the file ends at byte {self.start + len(content)}")
        return content
