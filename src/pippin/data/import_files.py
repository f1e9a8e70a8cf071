# SPDX-License-Identifier: Apache-2.0
"""Files of an import opened for reading at any place: those here, and copies of those by URL."""

import bz2
import gzip
import io
import lzma
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

from pippin.data.import_rows import BinaryFile
from pippin.data.import_urls import find_store
from pippin.system.files import naming
from pippin.system.secrets import is_url

COMPRESSIONS: dict[bytes, Callable[[Any], Any]] = {
    b"\x1f\x8b": lambda file: gzip.GzipFile(fileobj=file),
    b"BZh": bz2.BZ2File,
    b"\xfd7zXZ\x00": lzma.LZMAFile,
}
"""First bytes -> what reads the rest, checksums and the end included."""
CHUNK = 1 << 20
RETRIES = 5
"""Reads that are tried again when a connection is lost; after 1, 2, 4, ... seconds."""


@contextmanager
def open_stream(place: str) -> Iterator[BinaryFile]:
    """A file from its first byte on; it may be unable to seek.

    Args:
        place: path or URL.
    """
    if is_url(place):
        store, path = find_store(place, reading=True)
        with store.open(path, "rb") as file:
            yield _Steady(file)
    else:
        with open(place, "rb") as file:
            yield file


@contextmanager
def open_seekable(place: str, scratch: Path, *, copy_urls: bool) -> Iterator[BinaryFile]:
    """An uncompressed file that can be read at any place.

    What is compressed or, if so wanted, comes by URL is written to a file without a name: the
    system removes it, however the process ends.

    Args:
        place: path or URL.
        scratch: folder on the disk that has room for the copy.
        copy_urls: copy files by URL even where their store can seek.

    Raises:
        ConfigError: no such store, or a package that is missing.
        OSError, EOFError, zlib.error, ...: it cannot be read to its end.
    """
    with open_stream(place) as stream:
        if is_url(place) and (copy_urls or not stream.seekable()):
            file = _copied(stream, scratch)
        else:
            file = stream
        with file if file is not stream else _left_open():
            first = file.read(6)
            file.seek(0)
            reader = next(
                (r for start, r in COMPRESSIONS.items() if first.startswith(start)), None
            )
            if reader is None:
                yield file
                return
            with reader(file) as decompressed, _copied(decompressed, scratch) as copy:
                yield copy


@contextmanager
def _left_open() -> Iterator[None]:
    yield


def _can_seek(stream: BinaryFile) -> bool:
    """By trying: streams of fsspec say that they can, whether they can or not."""
    try:
        stream.seek(1)
        stream.seek(0)
    except (OSError, ValueError, NotImplementedError):
        return False
    return True


def _copied(source: Any, scratch: Path) -> BinaryFile:
    copy = TemporaryFile(dir=scratch)  # noqa: SIM115 (the caller closes it)
    try:
        while chunk := source.read(CHUNK):
            with naming(scratch):  # of an error that is no error of the source
                copy.write(chunk)
        with naming(scratch):
            copy.seek(0)
    except BaseException:
        copy.close()
        raise
    return copy


class _Steady(io.RawIOBase):
    """A file of a store, whose reads are tried again where a connection is lost."""

    def __init__(self, file: BinaryFile) -> None:
        super().__init__()
        self._file, self._can_seek = file, _can_seek(file)

    def readable(self) -> bool:
        """Yes."""
        return True

    def seekable(self) -> bool:
        """Whether any place can be read."""
        return self._can_seek

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a place."""
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        """The place that is read next."""
        return self._file.tell()

    def read(self, size: int = -1) -> bytes:
        """The next bytes; none at the end."""
        place = self._file.tell() if self._can_seek else 0
        for attempt in range(RETRIES):
            try:
                return self._file.read(size)
            except _connection_errors():
                if not self._can_seek:  # what was read meanwhile is not known
                    raise
                time.sleep(2**attempt)
                self._file.seek(place)
        return self._file.read(size)


def _connection_errors() -> tuple[type[Exception], ...]:
    """Errors that may pass."""
    try:
        from aiohttp import ClientConnectionError, ClientPayloadError
    except ImportError:
        return (ConnectionError, TimeoutError)
    return (ConnectionError, TimeoutError, ClientConnectionError, ClientPayloadError)
