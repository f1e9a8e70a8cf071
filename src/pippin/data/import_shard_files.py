# SPDX-License-Identifier: Apache-2.0
"""A shard that is a file: a parquet file or a WebDataset archive, here or by URL."""

import errno
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from pippin.config import ConfigError
from pippin.data.import_archives import look_at_archive, open_archive
from pippin.data.import_columns import Columns
from pippin.data.import_files import open_seekable, open_stream
from pippin.data.import_parquet import count_values, look_at_parquet, open_parquet
from pippin.data.import_rows import Look, OpenShard, Row, Stored
from pippin.data.import_urls import format_of, import_datasets, stem_of
from pippin.system.secrets import redact, without_secrets

NAMES = {"parquet": "parquet", "tar": "a tar archive"}
"""Formats, for messages."""
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
STATUS = "status"
"""Column in which img2dataset says what became of each URL."""


@dataclass(frozen=True, kw_only=True)
class FileShard:
    """A parquet file or a WebDataset archive."""

    index: int
    place: str
    """Path or URL."""
    identity: str
    """Name, size and the store's tag: what can be known of it without reading it."""
    notes: str | None = None
    """Path or URL of a parquet file in which img2dataset says what became of each URL."""

    @property
    def stem(self) -> str:
        """The file's name without the end that tells its format."""
        return PurePosixPath(stem_of(self.place)).name

    def look(self, scratch: Path) -> Look:
        """What its beginning tells of its columns.

        Raises:
            ConfigError: it cannot be read.
        """
        import_datasets()
        kind = format_of(self.place)
        try:
            if kind == "tar":
                with open_stream(self.place) as stream:
                    return look_at_archive(stream)
            with open_seekable(self.place, scratch, copy_urls=False) as file:
                return look_at_parquet(file)
        except ConfigError:
            raise
        except Exception as error:  # of many kinds: what a file's reader meets in it
            shown, why = without_secrets(self.place), self._explained(error)
            raise ConfigError(f"{shown} cannot be read as {NAMES[str(kind)]}: {why}") from None

    @contextmanager
    def open(self, columns: Columns, scratch: Path) -> Iterator[OpenShard]:
        """Its rows, which can be read inside the block; images are bytes.

        Args:
            columns: of the import.
            scratch: folder for a copy of what comes by URL or is compressed.

        Raises:
            ConfigError: it cannot be read to its end, before the first row or at any other.
            OSError: no room for the copy.
        """
        import_datasets()
        with ExitStack() as stack:
            try:
                is_archive = format_of(self.place) == "tar"
                file = stack.enter_context(
                    open_seekable(self.place, scratch, copy_urls=is_archive)
                )
                if is_archive:
                    opened = open_archive(file, columns.images)
                else:
                    opened = open_parquet(file, columns.candidates)
            except Exception as error:  # of many kinds, by format and by store
                raise self._unreadable(error) from None
            opened.rows = self._checked(opened.rows)
            yield opened

    def content(self, value: Any) -> bytes | None:
        """The bytes in a cell of images; None where it holds none.

        Raises:
            ConfigError: the file cannot be read there.
        """
        if not isinstance(value, Stored):
            return bytes_of(value)
        try:
            return value.read()
        except Exception as error:
            raise self._unreadable(error) from None

    def statuses(self, scratch: Path) -> Counter[str]:
        """What img2dataset says of the URLs of the shard: status -> how many."""
        if self.notes is None:
            return Counter()
        try:
            with open_seekable(self.notes, scratch, copy_urls=False) as file:
                return count_values(file, STATUS)
        except Exception:  # of many kinds; it holds no images
            return Counter({f"{PurePosixPath(without_secrets(self.notes)).name} unreadable": 1})

    def _checked(self, rows: Iterator[Row]) -> Iterator[Row]:
        try:
            yield from rows
        except Exception as error:
            raise self._unreadable(error) from None

    def _unreadable(self, error: Exception) -> Exception:
        if isinstance(error, ConfigError):
            return error
        if isinstance(error, OSError) and error.errno in NO_ROOM:  # for the copy
            return error
        return ConfigError(
            f"{self.identity}, cannot be read to its end: {self._explained(error)}; other shards "
            "that are whole stay"
        )

    def _explained(self, error: Exception) -> str:
        return redact(str(error) or type(error).__name__, self.place)


def bytes_of(value: Any) -> bytes | None:
    """The bytes in a cell of images of a table; None where it holds none."""
    if isinstance(value, dict):
        value = value.get("bytes")
    return value if isinstance(value, bytes) else None
