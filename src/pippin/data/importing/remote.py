# SPDX-License-Identifier: Apache-2.0
"""Remote files of an import: listing and identities.

All ``fsspec`` stores are supported: http, hf, S3, Google and Azure.
"""

import re
from pathlib import PurePosixPath
from typing import Any, Literal

from pippin.config import ConfigError
from pippin.data.folder.metadata import UNREAD
from pippin.data.importing.retries import is_busy, with_retries
from pippin.system.installation import pip_command
from pippin.system.offline import is_offline, offline_reason, online_advice
from pippin.system.redaction import is_url, redact, redact_logs, split_sources, strip_url_secrets
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
            return [(place, with_retries(lambda: store.info(path), is_busy))]
        if scheme in ("http", "https"):
            raise ConfigError(
                f"{shown} is no {SUPPORTED} file, and folders cannot be listed over http: name "
                "the files, such as https://HOST/{00000..00099}.tar"
            )
        lister = store.glob if "*" in shown else store.find
        inside = sorted(with_retries(lambda: lister(path, detail=True), is_busy).items())
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
