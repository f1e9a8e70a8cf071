# SPDX-License-Identifier: Apache-2.0
"""Listing and removal of caches of latents and of features, read without torch."""

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pippin.data.cache.shard_claims import LOCK, ShardClaims, has_builders
from pippin.system.formats import FormatError, read_versioned_json
from pippin.system.lock import FolderBusyError

MANIFEST = "manifest.json"
TEXT_PREFIX = "text-"
FEATURE_PREFIX = "features-"
"""Start of the name of a cache of image features."""
NEWER = "of a newer pippin"
"""Content of a cache whose manifest is of a newer version."""
STATISTICS_PREFIX = "statistics-"
"""Start of the name of a file with the measured statistics of the latents."""
OWN_FILES = ("shard-", STATISTICS_PREFIX, MANIFEST, LOCK, ".")
"""Starts of the names of files that a cache writes."""


@dataclass(frozen=True, kw_only=True)
class CacheFolder:
    """One cache."""

    path: Path
    num_bytes: int
    content: str
    """Kind of content, such as ``openmoji 64 px train``."""
    ingredients: dict[str, Any]
    """See :func:`pippin.data.cache.manifest.cache_ingredients`; empty for caption features and for
    an unfinished, damaged or newer cache."""

    @property
    def is_text(self) -> bool:
        """Whether the cache holds caption features."""
        return self.path.name.startswith(TEXT_PREFIX)

    @property
    def is_features(self) -> bool:
        """Whether the cache holds image features."""
        return self.path.name.startswith(FEATURE_PREFIX)


def list_caches(folder: Path) -> list[CacheFolder]:
    """Caches in the folder of all caches, the largest first; other folders are skipped."""
    caches = [_describe(path) for path in folder.glob("*") if _is_cache(path)]
    return sorted(caches, key=lambda cache: (-cache.num_bytes, cache.path.name))


def _is_cache(path: Path) -> bool:
    """Whether a folder has the name and the lock file of a cache."""
    key = path.name.removeprefix(TEXT_PREFIX).removeprefix(FEATURE_PREFIX)
    named = len(key) == 16 and set(key) <= set("0123456789abcdef")
    return named and path.is_dir() and not path.is_symlink() and (path / LOCK).is_file()


def _describe(path: Path) -> CacheFolder:
    ingredients: dict[str, Any] = {}
    content = "caption features" if path.name.startswith(TEXT_PREFIX) else "unfinished"
    if (path / MANIFEST).is_file():
        try:
            ingredients = dict(read_versioned_json(path / MANIFEST, "latent cache")["ingredients"])
            names = "data.kind", "data.resolution", "split"
            kind, side, split = (ingredients.get(name, "?") for name in names)
            features = "features of " if path.name.startswith(FEATURE_PREFIX) else ""
            content = f"{features}{kind} {side} px {split}"
        except FormatError:
            ingredients, content = {}, NEWER
        except (ValueError, LookupError, TypeError, OSError):
            ingredients, content = {}, "damaged"
    num_bytes = sum(file.stat().st_size for file in path.iterdir() if file.is_file())
    return CacheFolder(path=path, num_bytes=num_bytes, content=content, ingredients=ingredients)


def users_of(cache: Path) -> str:
    """Reason why a cache is in use on this machine; empty if it is not."""
    if has_builders(cache):
        return "it is being built"
    numbers = sorted(set(_processes_that_map(cache.resolve())))
    if numbers:
        return f"process {', '.join(map(str, numbers))} reads it"
    return ""


def _processes_that_map(cache: Path) -> Iterator[int]:
    """Processes of this machine that have a file of the cache open or in memory (Linux)."""
    inside = f"{cache}{os.sep}"
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # ended, or of another user
            if inside in (process / "maps").read_text(errors="replace"):
                yield int(process.name)
                continue
            files = (process / "fd").iterdir()
            if any(str(link.readlink()).startswith(inside) for link in files):
                yield int(process.name)


def remove_cache(cache: Path) -> None:
    """Remove the files of a cache, and its folder if it is then empty: files of others stay.

    The manifest goes first: without it the rest is an unfinished cache.

    Raises:
        FolderBusyError: another process builds the cache.
    """
    with ShardClaims(cache) as claims, claims.exclusive():
        if not claims.is_only_builder():
            raise FolderBusyError(f"{cache} is being built; wait until it is finished")
        (cache / MANIFEST).unlink(missing_ok=True)
        for file in cache.iterdir():
            if file.is_file() and file.name.startswith(OWN_FILES):
                file.unlink()
    with suppress(OSError):  # it holds files of the user
        cache.rmdir()
