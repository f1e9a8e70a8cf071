# SPDX-License-Identifier: Apache-2.0
"""Files of an import by URL: which there are, and what their stores say of them.

Every store that ``fsspec`` knows can be read: http, hf, S3, Google and Azure.
"""

import re
from pathlib import PurePosixPath
from typing import Any

from pippin.config import ConfigError
from pippin.data.metadata import UNREAD
from pippin.system.threads import map_in_threads

FORMATS = {".parquet": "parquet", ".tar": "webdataset"}
"""Suffix of a file -> what ``datasets`` calls its format."""
PACKAGES = {
    **dict.fromkeys(("http", "https"), "aiohttp"),
    **dict.fromkeys(("s3", "s3a"), "s3fs"),
    **dict.fromkeys(("gs", "gcs"), "gcsfs"),
    **dict.fromkeys(("az", "abfs"), "adlfs"),
}
"""Scheme of URLs -> what fsspec needs for it."""
TAGS = ("ETag", "etag", "blob_id")
"""What a store says of a file's content, by the names that fsspec's stores have for it."""
ASKED_AT_ONCE = 16
"""Files whose sizes are asked for at the same time."""


def ask_urls(places: list[str]) -> list[tuple[str, str]]:
    """(URL, identity) of files, of those in folders, and of those that a ``*`` stands for.

    Raises:
        ConfigError: a file that is not there, or a package that is missing.
    """
    asked = map_in_threads(_listed, places, ASKED_AT_ONCE)
    found = [one for several in asked for one in several]
    return [(place, _identity(place, info)) for place, info in found]


def _listed(place: str) -> list[tuple[str, dict[str, Any]]]:
    """(URL, what its store says of it) of the files that a URL means, sorted."""
    store, path = _store(place)
    scheme, suffix = place.partition("://")[0], suffix_of(place)
    try:
        if suffix in FORMATS and "*" not in place:
            return [(place, store.info(path))]
        if scheme in ("http", "https"):
            raise ConfigError(
                f"{without_query(place)} is no {' or '.join(FORMATS)} file, and folders cannot be "
                "listed over http: name the files, such as https://HOST/{00000..00099}.tar"
            )
        lister = store.glob if "*" in place else store.find
        inside = sorted(lister(path, detail=True).items())
    except ConfigError:
        raise
    except Exception as error:  # of many kinds, by store
        raise ConfigError(
            f"{without_query(place)} cannot be found: {str(error) or type(error).__name__}"
        ) from error
    found = [
        (store.unstrip_protocol(p), info)
        for p, info in inside
        if suffix_of(p) in FORMATS and PurePosixPath(p).name != UNREAD
    ]
    if not found:
        raise ConfigError(f"{without_query(place)} holds no {' or '.join(FORMATS)} file to import")
    return found


def _store(place: str) -> tuple[Any, str]:
    """The store of a URL and the path in it."""
    import_datasets()
    from fsspec.core import url_to_fs

    scheme = place.partition("://")[0]
    try:
        return url_to_fs(place)
    except ImportError as error:
        package = PACKAGES.get(scheme)
        advice = f"pip install {package}" if package else str(error)
        raise ConfigError(f"reading {scheme}:// needs another package: {advice}") from error
    except Exception as error:  # no such scheme; no credentials
        raise ConfigError(f"{without_query(place)} cannot be opened: {error}") from error


def _identity(place: str, info: dict[str, Any]) -> str:
    size = info.get("size")
    told = f"{PurePosixPath(without_query(place)).name}, {'?' if size is None else size} bytes"
    tag = next((info[name] for name in TAGS if info.get(name)), None)
    return told if tag is None else f"{told}, {tag}"


def is_url(place: str) -> bool:
    """Whether a text is a URL and no path."""
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", place) is not None


def without_query(places: str) -> str:
    """Without the queries of URLs, which may hold signatures; others stay as they are."""
    return "::".join(one.partition("?")[0] if is_url(one) else one for one in places.split("::"))


def suffix_of(place: str) -> str:
    """Of a path or URL, with the dot."""
    return PurePosixPath(without_query(place)).suffix


def import_datasets() -> Any:
    """The library ``datasets``, which brings fsspec.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        import datasets
    except ImportError as error:
        raise ConfigError("pippin data import needs: pip install 'pippin[datasets]'") from error
    datasets.disable_progress_bars()
    return datasets
