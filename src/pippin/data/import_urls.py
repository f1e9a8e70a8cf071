# SPDX-License-Identifier: Apache-2.0
"""Files of an import by URL: which there are, and what their stores say of them.

Every store that ``fsspec`` knows can be read: http, hf, S3, Google and Azure.
"""

import re
from pathlib import PurePosixPath
from typing import Any, Literal

from pippin.config import ConfigError
from pippin.data.metadata import UNREAD
from pippin.system.secrets import redact, redact_logs, without_secrets
from pippin.system.threads import map_in_threads

Format = Literal["parquet", "tar"]
FORMATS: dict[str, Format] = {
    ".parquet": "parquet",
    **dict.fromkeys((".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz"), "tar"),
}
"""Ends of names of files that are imported, in lower case -> what they are."""
READ = ".parquet or .tar"
"""The formats, for messages."""
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
OF_HTTP = {"client_kwargs": {"trust_env": True}, "headers": {"Accept-Encoding": "identity"}}
"""Proxies of the environment are used, and bytes come as they are."""
LIBRARIES = ("datasets", "fsspec", "huggingface_hub")
"""Packages that log the URLs that they read."""


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
    store, path = find_store(place)
    shown, scheme = without_secrets(place), place.partition("://")[0]
    try:
        if format_of(place) and "*" not in shown:
            return [(place, store.info(path))]
        if scheme in ("http", "https"):
            raise ConfigError(
                f"{shown} is no {READ} file, and folders cannot be listed over http: name the "
                "files, such as https://HOST/{00000..00099}.tar"
            )
        lister = store.glob if "*" in shown else store.find
        inside = sorted(lister(path, detail=True).items())
    except ConfigError:
        raise
    except Exception as error:  # of many kinds, by store
        why = redact(str(error) or type(error).__name__, place)
        raise ConfigError(f"{shown} cannot be found: {why}") from None
    found = [
        (store.unstrip_protocol(p), info)
        for p, info in inside
        if format_of(p) and PurePosixPath(p).name != UNREAD
    ]
    if not found:
        raise ConfigError(f"{shown} holds no {READ} file to import")
    return found


def find_store(place: str, *, reading: bool = False) -> tuple[Any, str]:
    """The store of a URL and the path in it.

    Args:
        place: a URL.
        reading: open files of the hub as such, with the user's token, where the URL is http.

    Raises:
        ConfigError: no such store, or a package that is missing.
    """
    import_datasets()
    from fsspec.core import url_to_fs

    if reading:
        place = _of_hub(place)
    scheme = place.partition("://")[0]
    try:
        return url_to_fs(place, **(OF_HTTP if scheme in ("http", "https") else {}))
    except ImportError as error:
        package = PACKAGES.get(scheme)
        advice = f"pip install {package}" if package else redact(error, place)
        raise ConfigError(f"reading {scheme}:// needs another package: {advice}") from None
    except Exception as error:  # no such scheme; no credentials
        shown, why = without_secrets(place), redact(error, place)
        raise ConfigError(f"{shown} cannot be opened: {why}") from None


def _of_hub(place: str) -> str:
    """The hub's own form of ``https://huggingface.co/datasets/.../resolve/...``."""
    from huggingface_hub.constants import ENDPOINT

    if not re.match(rf"{re.escape(ENDPOINT)}/datasets/[^?]*/resolve/", place):
        return place
    path = without_secrets(place).removeprefix(f"{ENDPOINT}/")
    return f"hf://{path.replace('/resolve/', '@', 1)}"


def _identity(place: str, info: dict[str, Any]) -> str:
    size = info.get("size")
    told = f"{PurePosixPath(without_secrets(place)).name}, {'?' if size is None else size} bytes"
    tag = next((info[name] for name in TAGS if info.get(name)), None)
    return told if tag is None else f"{told}, {tag}"


def format_of(place: str) -> Format | None:
    """What a path or URL is by its name; None where it is no file that is imported."""
    name = PurePosixPath(without_secrets(place)).name.lower()
    return next((kind for end, kind in FORMATS.items() if name.endswith(end)), None)


def stem_of(place: str) -> str:
    """A path or URL up to the end of its name that tells the format."""
    bare = without_secrets(place)
    end = max((e for e in FORMATS if bare.lower().endswith(e)), key=len, default="")
    return bare[: len(bare) - len(end)]


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
    redact_logs(*LIBRARIES)
    return datasets
