# SPDX-License-Identifier: Apache-2.0
"""Shard files: parquet files and WebDataset archives, local or by URL."""

import errno
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from pippin.config import ConfigError
from pippin.data.importing.columns import Columns
from pippin.data.importing.open_files import open_seekable, open_stream
from pippin.data.importing.remote import datasets_library, format_of, stem_of
from pippin.data.importing.retries import with_retries
from pippin.data.importing.rows import FileSlice, OpenShard, Row, ShardSchema
from pippin.data.importing.shard_rows import (
    count_values,
    open_archive,
    open_parquet,
    read_archive_schema,
    read_parquet_schema,
)
from pippin.system.redaction import redact, strip_url_secrets

NAMES = {"parquet": "parquet", "tar": "a tar archive"}
"""Names of formats for messages."""
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
STATUS = "status"
"""Column with img2dataset's status of each URL."""


@dataclass(frozen=True, kw_only=True)
class FileShard:
    """Parquet file or WebDataset archive."""

    index: int
    place: str
    """Path or URL."""
    identity: str
    """Name, size and the store's tag, known without reading the file."""
    notes: str | None = None
    """Path or URL of img2dataset's parquet file with the status of each URL."""
    salvage: bool = False
    """Read the rows before the first fault of a damaged archive."""

    @property
    def stem(self) -> str:
        """File name without the suffix of its format."""
        return PurePosixPath(stem_of(self.place)).name

    def read_schema(self, scratch: Path) -> ShardSchema:
        """Schema of the shard, from its beginning or footer.

        Raises:
            ConfigError: the file cannot be read.
        """
        datasets_library()
        try:
            return with_retries(lambda: self._read_schema(scratch))
        except ConfigError:
            raise
        except Exception as error:  # the type depends on the reader of the format
            shown, why = strip_url_secrets(self.place), self._explained(error)
            kind = NAMES[str(format_of(self.place))]
            raise ConfigError(f"{shown} cannot be read as {kind}: {why}") from None

    def _read_schema(self, scratch: Path) -> ShardSchema:
        if format_of(self.place) == "tar":
            with open_stream(self.place) as stream:
                return read_archive_schema(stream)
        with open_seekable(self.place, scratch, copy_urls=False) as file:
            return read_parquet_schema(file)

    @contextmanager
    def open(self, columns: Columns, scratch: Path) -> Iterator[OpenShard]:
        """Open the shard for its rows, readable inside the block; images are bytes.

        Args:
            columns: columns of the import.
            scratch: folder for the copy of a remote or compressed file.

        Raises:
            ConfigError: the file cannot be opened or read to its end.
            OSError: no disk space for the copy.
        """
        datasets_library()
        with ExitStack() as stack:
            try:
                is_archive = format_of(self.place) == "tar"
                file = stack.enter_context(
                    open_seekable(self.place, scratch, copy_urls=is_archive)
                )
                if is_archive:
                    opened = open_archive(file, columns.images, salvage=self.salvage)
                else:
                    opened = open_parquet(file, columns.candidates)
            except Exception as error:  # of many kinds, by format and by store
                raise self._unreadable(error) from None
            opened.rows = self._checked(opened.rows)
            yield opened

    def content(self, value: Any) -> bytes | None:
        """Bytes of an image cell; None if it is empty.

        Raises:
            ConfigError: the file cannot be read at this position.
            EOFError: the file ends before it, and ``salvage`` is set.
        """
        if not isinstance(value, FileSlice):
            return bytes_of(value)
        try:
            return value.read()
        except Exception as error:
            if self.salvage and isinstance(error, EOFError):
                raise
            raise self._unreadable(error) from None

    def statuses(self, scratch: Path) -> Counter[str]:
        """Counts of img2dataset's statuses of the shard's URLs."""
        if self.notes is None:
            return Counter()
        try:
            with open_seekable(self.notes, scratch, copy_urls=False) as file:
                return count_values(file, STATUS)
        except Exception:  # any type; the file holds no images
            return Counter({f"{PurePosixPath(strip_url_secrets(self.notes)).name} unreadable": 1})

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
            f"{self.identity}, cannot be read to its end: {self._explained(error)}; complete "
            "shards are kept"
        )

    def _explained(self, error: Exception) -> str:
        return redact(str(error) or type(error).__name__, self.place)


def bytes_of(value: Any) -> bytes | None:
    """Bytes of an image cell of a table; None if it is empty."""
    if isinstance(value, dict):
        value = value.get("bytes")
    return value if isinstance(value, bytes) else None
