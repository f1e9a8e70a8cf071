# SPDX-License-Identifier: Apache-2.0
"""The manifest of a latent cache: what made it, and which files it must have."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pippin.config import Config, ConfigError, fingerprint, protocol
from pippin.data.config import CacheConfig
from pippin.data.moments import Encoder
from pippin.data.shards import shard_name
from pippin.data.source import PictureSource
from pippin.system.files import file_digest

CACHE_VERSION = 1
"""Raised whenever the meaning of a cache's content changes."""

PLACES = ("path", "metadata")
"""Data settings that say where files lie; what is in them is in the source's hash."""

MANIFEST = "manifest.json"
Verify = Literal["size", "sha256"]


class CacheError(ValueError):
    """A latent cache is absent, unfinished, of other settings, or damaged."""


@dataclass(frozen=True, kw_only=True)
class ShardEntry(Config):
    """One shard file."""

    name: str
    first_row: int
    end_row: int
    """One past the last row."""
    num_bytes: int
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Manifest(Config):
    """Written last: a cache without it is unfinished."""

    FORMAT = "latent cache"

    key: str
    ingredients: dict[str, Any]
    """Everything that decides the content; the key is its fingerprint."""
    num_pictures: int
    num_views: int
    shard_size: int
    shards: tuple[ShardEntry, ...]


def cache_ingredients(
    source: PictureSource, encoder: Encoder, config: CacheConfig
) -> dict[str, Any]:
    """Everything that decides what a cache holds, as JSON values by name."""
    values = {
        "cache_version": CACHE_VERSION,
        "autoencoder": encoder.fingerprint,
        "source": source.source_hash(),
        "split": source.split,
        "dtype": config.dtype,
        **{f"data.{path}": value for path, value in protocol(source.config).items()},
    }
    for path in PLACES:
        values.pop(f"data.{path}", None)
    return json.loads(json.dumps(values))


def cache_key(ingredients: Mapping[str, Any]) -> str:
    """16 hexadecimal digits: the name of the cache's folder."""
    return fingerprint(ingredients)


def load_manifest(folder: Path, ingredients: Mapping[str, Any]) -> Manifest:
    """The manifest of the cache at ``folder``, if it is of these ingredients.

    Raises:
        CacheError: none there, unfinished, damaged, or of other ingredients (named).
        FormatError: of a newer version, which is not to be built over.
    """
    if not folder.is_dir():
        raise CacheError(
            f"there is no latent cache for these settings at {folder}: build it "
            f"first{_nearest(folder.parent, ingredients)}"
        )
    try:
        manifest = Manifest.load(folder / MANIFEST)
    except FileNotFoundError:
        raise CacheError(
            f"the latent cache {folder} is unfinished: it has no {MANIFEST}; building it again "
            "goes on where the last build stopped"
        ) from None
    except ConfigError as error:
        raise CacheError(f"the latent cache {folder} has a damaged {MANIFEST}: {error}") from error
    if changed := _differences(manifest.ingredients, ingredients):
        raise CacheError(f"the latent cache {folder} is of other settings: {'; '.join(changed)}")
    if manifest.key != cache_key(ingredients):
        raise CacheError(
            f"the latent cache {folder} has the key {manifest.key!r}, but its settings give "
            f"{cache_key(ingredients)!r}"
        )
    if fault := _shape_fault(manifest):
        raise CacheError(f"the latent cache {folder} has a damaged {MANIFEST}: {fault}")
    return manifest


def check_shards(folder: Path, manifest: Manifest, verify: Verify) -> None:
    """Compare every shard file with the manifest: its size, and with ``sha256`` its content.

    Raises:
        CacheError: the first shard that is missing, truncated or changed, by name.
    """
    for shard in manifest.shards:
        path = folder / shard.name
        if not path.is_file():
            raise CacheError(f"{path} is missing; building the cache again mends it")
        if (size := path.stat().st_size) != shard.num_bytes:
            raise CacheError(
                f"{path} has {size} bytes instead of {shard.num_bytes}; "
                "building the cache again mends it"
            )
        if verify == "sha256" and file_digest(path) != shard.sha256:
            raise CacheError(f"{path} has a wrong checksum; building the cache again mends it")


def _shape_fault(manifest: Manifest) -> str | None:
    """Which count contradicts another one; manifests of format 0 have no checksum that says so."""
    total, size = manifest.num_pictures * manifest.num_views, manifest.shard_size
    views = manifest.ingredients.get("data.views", manifest.num_views)
    found = [(one.name, one.first_row, one.end_row) for one in manifest.shards]
    places = range(len(found))  # not as many as the counts say, which may be enormous
    wanted = [(shard_name(k), k * size, min((k + 1) * size, total)) for k in places]
    fits = min(total, size) > 0 and len(found) == -(-total // size)
    if fits and found == wanted and manifest.num_views == views:
        return None
    return (
        f"num_pictures {manifest.num_pictures}, num_views {manifest.num_views} and shard_size "
        f"{size} do not fit its settings and the {len(found)} shards that it lists"
    )


def _differences(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    """Each ingredient that differs, with both values."""
    names = [*wanted, *(name for name in found if name not in wanted)]
    return [
        f"{name} is {found.get(name)!r} there, {wanted.get(name)!r} here"
        for name in names
        if found.get(name) != wanted.get(name)
    ]


def _nearest(caches: Path, wanted: Mapping[str, Any]) -> str:
    """What separates the most similar finished cache from the wanted one."""
    others = []
    for path in sorted(caches.glob(f"*/{MANIFEST}")):
        try:
            found = Manifest.load(path)
        except (OSError, ValueError):  # damaged, or of a newer version
            continue
        others.append((_differences(found.ingredients, wanted), path.parent))
    if not others:
        return ""
    changed, folder = min(others, key=lambda other: len(other[0]))
    return f". The nearest one, {folder}, differs: {'; '.join(changed)}"
