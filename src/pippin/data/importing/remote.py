# SPDX-License-Identifier: Apache-2.0
"""Remote files of an import: listing, identities and local copies.

All ``fsspec`` stores are supported: http, hf, S3, Google and Azure.
"""

import bz2
import gzip
import io
import lzma
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from tempfile import TemporaryFile
from typing import Any, Literal

from pippin.config import ConfigError
from pippin.data.folder.metadata import UNREAD
from pippin.data.importing.rows import BinaryFile
from pippin.system.files import name_file_in_errors
from pippin.system.installation import pip_command
from pippin.system.offline import is_offline, offline_reason, online_advice
from pippin.system.text import is_url, redact, redact_logs, split_sources, strip_url_secrets
from pippin.system.workers.pool import map_in_threads

Format = Literal["parquet", "tar"]
FORMATS: dict[str, Format] = {
    ".parquet": "parquet",
    **dict.fromkeys((".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz"), "tar"),
}
"""File suffix in lower case -> format."""
SUPPORTED = ".parquet or .tar"
"""Supported formats, for messages."""
PACKAGES = {
    **dict.fromkeys(("http", "https"), "aiohttp"),
    **dict.fromkeys(("s3", "s3a"), "s3fs"),
    **dict.fromkeys(("gs", "gcs"), "gcsfs"),
    **dict.fromkeys(("az", "abfs"), "adlfs"),
}
"""URL scheme -> package that fsspec needs for it."""
LOCAL_SCHEMES = {"file", "local", "memory"}
"""URL schemes of stores on this machine, which offline mode allows."""
TAGS = ("ETag", "etag", "blob_id")
"""Names of content tags in file information of fsspec stores."""
MAX_CONCURRENT_REQUESTS = 16
"""Maximum number of concurrent requests for file information."""
HTTP_OPTIONS = {"client_kwargs": {"trust_env": True}, "headers": {"Accept-Encoding": "identity"}}
"""Options of http stores: use the proxies of the environment, and do not compress transfers."""
LIBRARIES = ("datasets", "fsspec", "huggingface_hub")
"""Packages that log URLs."""


def resolve_urls(places: list[str]) -> list[tuple[str, str]]:
    """(URL, identity) of files, of files in folders, and of files that match a ``*``.

    Raises:
        ConfigError: a missing file, or a missing package.
    """
    listings = map_in_threads(_list_files, places, MAX_CONCURRENT_REQUESTS)
    files = [file for listing in listings for file in listing]
    return [(place, _identity(place, info)) for place, info in files]


def _list_files(place: str) -> list[tuple[str, dict[str, Any]]]:
    """(URL, file information of the store) of the files that a URL names, sorted."""
    store, path = find_store(place)
    shown, scheme = strip_url_secrets(place), place.partition("://")[0]
    try:
        if format_of(place) and "*" not in shown:
            return [(place, store.info(path))]
        if scheme in ("http", "https"):
            raise ConfigError(
                f"{shown} is no {SUPPORTED} file, and folders cannot be listed over http: name "
                "the files, such as https://HOST/{00000..00099}.tar"
            )
        lister = store.glob if "*" in shown else store.find
        inside = sorted(lister(path, detail=True).items())
    except ConfigError:
        raise
    except Exception as error:  # of many kinds, by store
        why = redact(str(error) or type(error).__name__, place)
        raise ConfigError(f"{shown} cannot be found: {why}") from None
    files = [
        (store.unstrip_protocol(p), info)
        for p, info in inside
        if format_of(p) and PurePosixPath(p).name != UNREAD
    ]
    if not files:
        raise ConfigError(f"{shown} holds no {SUPPORTED} file to import")
    return files


def find_store(place: str, *, reading: bool = False) -> tuple[Any, str]:
    """Store of a URL and the path in it.

    Args:
        place: a URL.
        reading: open http URLs of hub files through the hub, with the user's token.

    Raises:
        ConfigError: no such store, a missing package, or a remote store in offline mode.
    """
    _refuse_offline(place)
    datasets_library()
    from fsspec.core import url_to_fs

    if reading:
        place = _hub_url(place)
    scheme = place.partition("://")[0]
    try:
        return url_to_fs(place, **(HTTP_OPTIONS if scheme in ("http", "https") else {}))
    except ImportError as error:
        package = PACKAGES.get(scheme)
        advice = f"pip install {package}" if package else redact(error, place)
        raise ConfigError(f"reading {scheme}:// needs another package: {advice}") from None
    except Exception as error:  # no such scheme; no credentials
        shown, why = strip_url_secrets(place), redact(error, place)
        raise ConfigError(f"{shown} cannot be opened: {why}") from None


def _refuse_offline(place: str) -> None:
    """Refuse a URL of another machine in offline mode."""
    schemes = {part.partition("://")[0] for part in split_sources(place) if is_url(part)}
    if schemes - LOCAL_SCHEMES and is_offline():
        shown = strip_url_secrets(place)
        raise ConfigError(
            f"{shown} is not read: {offline_reason()}; copy its files to this machine and give "
            f"their folder, or {online_advice()}"
        )


def _hub_url(place: str) -> str:
    """Convert ``https://huggingface.co/datasets/.../resolve/...`` to an ``hf://`` URL."""
    from huggingface_hub.constants import ENDPOINT

    if not re.match(rf"{re.escape(ENDPOINT)}/datasets/[^?]*/resolve/", place):
        return place
    path = strip_url_secrets(place).removeprefix(f"{ENDPOINT}/")
    return f"hf://{path.replace('/resolve/', '@', 1)}"


def _identity(place: str, info: dict[str, Any]) -> str:
    size = info.get("size")
    name = PurePosixPath(strip_url_secrets(place)).name
    identity = f"{name}, {'?' if size is None else size} bytes"
    tag = next((info[name] for name in TAGS if info.get(name)), None)
    return identity if tag is None else f"{identity}, {tag}"


def format_of(place: str) -> Format | None:
    """Format of a path or URL by its name; None if it is not supported."""
    name = PurePosixPath(strip_url_secrets(place)).name.lower()
    return next((kind for end, kind in FORMATS.items() if name.endswith(end)), None)


def stem_of(place: str) -> str:
    """Path or URL without the suffix of its format."""
    bare = strip_url_secrets(place)
    end = max((e for e in FORMATS if bare.lower().endswith(e)), key=len, default="")
    return bare[: len(bare) - len(end)]


def datasets_library() -> Any:
    """Import the ``datasets`` library, which installs fsspec.

    Raises:
        ConfigError: the library is not installed.
    """
    try:
        import datasets
    except ImportError as error:
        raise ConfigError(f"pippin data import needs: {pip_command('datasets')}") from error
    datasets.disable_progress_bars()
    redact_logs(*LIBRARIES)
    return datasets


COMPRESSIONS: dict[bytes, Callable[[Any], Any]] = {
    b"\x1f\x8b": lambda file: gzip.GzipFile(fileobj=file),
    b"BZh": bz2.BZ2File,
    b"\xfd7zXZ\x00": lzma.LZMAFile,
}
"""Magic bytes -> decompressing reader, which checks checksums and the end of the file."""
CHUNK = 1 << 20
RETRIES = 5
"""Maximum number of retries after a lost connection, with delays of 1, 2, 4, ... seconds."""


@contextmanager
def open_stream(place: str) -> Iterator[BinaryFile]:
    """Open a file at its first byte; it may not be seekable.

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
    """File of a store that retries reads after a lost connection."""

    def __init__(self, file: BinaryFile) -> None:
        super().__init__()
        self._file, self._can_seek = file, _can_seek(file)

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
        offset = self._file.tell() if self._can_seek else 0
        for attempt in range(RETRIES):
            try:
                return self._file.read(size)
            except _connection_errors():
                if not self._can_seek:  # the position is unknown
                    raise
                time.sleep(2**attempt)
                self._file.seek(offset)
        return self._file.read(size)


def _connection_errors() -> tuple[type[Exception], ...]:
    """Transient connection errors."""
    try:
        from aiohttp import ClientConnectionError, ClientPayloadError
    except ImportError:
        return (ConnectionError, TimeoutError)
    return (ConnectionError, TimeoutError, ClientConnectionError, ClientPayloadError)
