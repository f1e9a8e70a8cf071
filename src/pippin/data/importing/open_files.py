# SPDX-License-Identifier: Apache-2.0
"""Files of an import opened for reading: local, remote and compressed ones."""

import bz2
import gzip
import io
import lzma
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

from pippin.data.importing.remote import find_store
from pippin.data.importing.retries import ShortReadError, with_retries
from pippin.data.importing.rows import BinaryFile
from pippin.system.files import name_file_in_errors
from pippin.system.redaction import is_url

COMPRESSIONS: dict[bytes, Callable[[Any], Any]] = {
    b"\x1f\x8b": lambda file: gzip.GzipFile(fileobj=file),
    b"BZh": bz2.BZ2File,
    b"\xfd7zXZ\x00": lzma.LZMAFile,
}
"""Magic bytes -> decompressing reader, which checks checksums and the end of the file."""
CHUNK = 1 << 20


@contextmanager
def open_stream(place: str) -> Iterator[BinaryFile]:
    """Open a file at its first byte; it may not be seekable.

    Args:
        place: path or URL.
    """
    if is_url(place):
        store, path = find_store(place, reading=True)
        with with_retries(lambda: store.open(path, "rb")) as file:
            yield _Steady(file)
    else:
        with open(place, "rb") as file:
            yield file


@contextmanager
def open_seekable(place: str, scratch: Path, *, copy_urls: bool) -> Iterator[BinaryFile]:
    """Open a file as an uncompressed, seekable file.

    Compressed files and, if requested, remote files are copied to an unnamed temporary file, which
    the system removes when the process ends.

    Args:
        place: path or URL.
        scratch: folder on the disk for the copy.
        copy_urls: copy remote files even if their store can seek.

    Raises:
        ConfigError: no such store, or a missing package.
        OSError, EOFError, zlib.error, ...: the file cannot be read to its end.
    """
    with ExitStack() as stack:
        file = None if is_url(place) and copy_urls else stack.enter_context(open_stream(place))
        if file is None or not file.seekable():
            file = stack.enter_context(_downloaded(place, scratch))
        first = file.read(6)
        file.seek(0)
        reader = next((r for start, r in COMPRESSIONS.items() if first.startswith(start)), None)
        if reader is None:
            yield file
            return
        with reader(file) as decompressed, _copied(decompressed, scratch) as copy:
            yield copy


def _downloaded(place: str, scratch: Path) -> BinaryFile:
    """Copy of a remote file; a file that arrives in part is requested again.

    Raises:
        ShortReadError: the server sends fewer or more bytes than it states, time after time.
        OSError, aiohttp.ClientError, ...: the file cannot be read to its end.
    """

    def attempt() -> BinaryFile:
        with open_stream(place) as stream:
            copy = _copied(stream, scratch)
            size, length = stream.num_bytes, copy.seek(0, io.SEEK_END)
            copy.seek(0)
        if size not in (None, length):
            copy.close()
            raise ShortReadError(f"the server states {size} bytes and sends {length}")
        return copy

    return with_retries(attempt)


def _can_seek(stream: BinaryFile) -> bool:
    """Try to seek: fsspec streams report that they are seekable even if they are not."""
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
            with name_file_in_errors(scratch):  # an error here is not an error of the source
                copy.write(chunk)
        with name_file_in_errors(scratch):
            copy.seek(0)
    except BaseException:
        copy.close()
        raise
    return copy


class _Steady(io.RawIOBase):
    """File of a store that retries reads after a lost connection or a busy server."""

    def __init__(self, file: BinaryFile) -> None:
        super().__init__()
        self._file, self._can_seek = file, _can_seek(file)

    @property
    def num_bytes(self) -> int | None:
        """Size that the store states; None = unknown."""
        size = getattr(self._file, "size", None)
        return size if isinstance(size, int) else None

    def readable(self) -> bool:
        """Always True."""
        return True

    def seekable(self) -> bool:
        """True if the file supports random access."""
        return self._can_seek

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move to an offset."""
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        """Offset of the next read."""
        return self._file.tell()

    def read(self, size: int = -1) -> bytes:
        """Next bytes; empty at the end."""
        if not self._can_seek:  # after an error the position is unknown
            return self._file.read(size)
        offset = self._file.tell()

        def attempt() -> bytes:
            self._file.seek(offset)
            return self._file.read(size)

        return with_retries(attempt)
