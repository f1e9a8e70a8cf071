# SPDX-License-Identifier: Apache-2.0
"""Manifest and shard files of a latent cache."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from safetensors import SafetensorError, safe_open
from torch import Tensor

from pippin.config import Config, ConfigError, fingerprint, protocol
from pippin.data.config import CacheConfig
from pippin.data.moments import Encoder
from pippin.data.source import ImageSource
from pippin.system.files import file_digest
from pippin.system.formats import FORMATS, VERSION, FormatError, check_format, parse_json
from pippin.system.tensors import save_tensors, typed_digest

_METADATA = "pippin"
KIND = "cache shard"
"""Key in :data:`pippin.system.formats.FORMATS`, for latents and for caption features."""


def shard_name(number: int) -> str:
    """File name of a shard."""
    return f"shard-{number:05d}.safetensors"


def write_shard(path: Path, tensors: dict[str, Tensor], identity: dict[str, Any]) -> None:
    """Write one shard atomically.

    Args:
        path: path of the shard.
        tensors: content of the shard.
        identity: key of the cache and row range. The header stores it with a checksum, so a later
            build can check that the shard is the required one.
    """
    content = {**identity, "content": typed_digest(tensors), VERSION: FORMATS[KIND]}
    header = json.dumps(content, sort_keys=True)
    save_tensors(path, tensors, metadata={_METADATA: header})


def read_shard(path: Path) -> dict[str, Tensor]:
    """Memory-mapped tensors of a shard; only the values that are read use memory."""
    with safe_open(path, framework="pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


def shard_fault(path: Path, identity: dict[str, Any], *, checksum: bool = True) -> str | None:
    """Fault of the shard at ``path``; None if it is complete and has this identity.

    Args:
        path: path of the shard.
        identity: expected identity.
        checksum: also read the content and compare its checksum.

    Raises:
        FormatError: the shard has a newer version and must not be overwritten.
    """
    if not path.exists():
        return "missing"
    try:
        with safe_open(path, framework="pt") as file:
            header = parse_json(file.metadata()[_METADATA])
        check_format(KIND, header.pop(VERSION, None), path)
        content = typed_digest(read_shard(path)) if checksum else header["content"]
    except FormatError:
        raise
    except (OSError, SafetensorError, LookupError, TypeError, AttributeError, ValueError) as error:
        return f"not readable ({error})"
    if header == {**identity, "content": content}:
        return None
    same = isinstance(header, dict) and header | identity == header
    return "damaged (its checksum is wrong)" if same else "of other settings"


CACHE_VERSION = 1
"""Version of the content of a cache; increment it when the content changes."""

PLACES = ("path", "metadata")
"""Data settings that are paths; the source hash covers the content."""

MANIFEST = "manifest.json"
Verify = Literal["size", "sha256"]


class CacheError(ValueError):
    """Latent cache that is absent, unfinished, damaged, or built with other settings."""


@dataclass(frozen=True, kw_only=True)
class ShardEntry(Config):
    """Record of one shard file."""

    name: str
    first_row: int
    end_row: int
    """One past the last row."""
    num_bytes: int
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Manifest(Config):
    """Manifest, written last: a cache without it is unfinished."""

    FORMAT = "latent cache"

    key: str
    ingredients: dict[str, Any]
    """Everything that determines the content; the key is its fingerprint."""
    num_pictures: int
    num_views: int
    shard_size: int
    shards: tuple[ShardEntry, ...]


def cache_ingredients(
    source: ImageSource, encoder: Encoder, config: CacheConfig
) -> dict[str, Any]:
    """Everything that determines the content of a cache, as JSON values by name."""
    images = {"source": source.source_hash(), "split": source.split}
    return images | known_ingredients(source.config, encoder, config)


def known_ingredients(data: Config, encoder: Encoder, config: CacheConfig) -> dict[str, Any]:
    """The ingredients that are known before the images are read."""
    values = {
        "cache_version": CACHE_VERSION,
        "autoencoder": encoder.fingerprint,
        "dtype": config.dtype,
        **{f"data.{path}": value for path, value in protocol(data).items()},
    }
    for path in PLACES:
        values.pop(f"data.{path}", None)
    known: dict[str, Any] = json.loads(json.dumps(values))
    return known


def cache_key(ingredients: Mapping[str, Any]) -> str:
    """Name of the cache's folder: 16 hexadecimal digits."""
    return fingerprint(ingredients)


def load_manifest(folder: Path, ingredients: Mapping[str, Any]) -> Manifest:
    """Load the manifest of a cache and check its ingredients.

    Raises:
        CacheError: absent, unfinished, damaged, or other ingredients, which the message names.
        FormatError: the cache has a newer version and must not be overwritten.
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
            f"the latent cache {folder} is unfinished: it has no {MANIFEST}; build it again to "
            "resume"
        ) from None
    except ConfigError as error:
        raise CacheError(f"the latent cache {folder} has a damaged {MANIFEST}: {error}") from error
    if changed := _differences(manifest.ingredients, ingredients):
        raise CacheError(f"the latent cache {folder} has other settings: {'; '.join(changed)}")
    if manifest.key != cache_key(ingredients):
        raise CacheError(
            f"the latent cache {folder} has the key {manifest.key!r}, but its settings give "
            f"{cache_key(ingredients)!r}"
        )
    if fault := _shape_fault(manifest):
        raise CacheError(f"the latent cache {folder} has a damaged {MANIFEST}: {fault}")
    return manifest


def check_shards(folder: Path, manifest: Manifest, verify: Verify) -> None:
    """Compare every shard file with the manifest: the size, and with ``sha256`` the content.

    Raises:
        CacheError: a shard is missing, truncated or changed; the message names the first.
    """
    for shard in manifest.shards:
        path = folder / shard.name
        if not path.is_file():
            raise CacheError(f"{path} is missing; build the cache again to repair it")
        if (size := path.stat().st_size) != shard.num_bytes:
            raise CacheError(
                f"{path} has {size} bytes instead of {shard.num_bytes}; "
                "build the cache again to repair it"
            )
        if verify == "sha256" and file_digest(path) != shard.sha256:
            raise CacheError(f"{path} has a wrong checksum; build the cache again to repair it")


def _shape_fault(manifest: Manifest) -> str | None:
    """Contradiction between counts, or None; manifests of format 0 have no checksum."""
    total, size = manifest.num_pictures * manifest.num_views, manifest.shard_size
    views = manifest.ingredients.get("data.views", manifest.num_views)
    actual = [(shard.name, shard.first_row, shard.end_row) for shard in manifest.shards]
    indices = range(len(actual))  # bounded: damaged counts may be enormous
    expected = [(shard_name(k), k * size, min((k + 1) * size, total)) for k in indices]
    fits = min(total, size) > 0 and len(actual) == -(-total // size)
    if fits and actual == expected and manifest.num_views == views:
        return None
    return (
        f"num_pictures {manifest.num_pictures}, num_views {manifest.num_views} and shard_size "
        f"{size} do not match its settings and the {len(actual)} shards that it lists"
    )


def _differences(actual: Mapping[str, Any], expected: Mapping[str, Any]) -> list[str]:
    """Each ingredient that differs, with both values."""
    names = [*expected, *(name for name in actual if name not in expected)]
    return [
        f"{name} is {actual.get(name)!r} there, {expected.get(name)!r} here"
        for name in names
        if actual.get(name) != expected.get(name)
    ]


def _nearest(caches: Path, expected: Mapping[str, Any]) -> str:
    """Differences between the expected cache and the most similar finished cache."""
    candidates = []
    for path in sorted(caches.glob(f"*/{MANIFEST}")):
        try:
            manifest = Manifest.load(path)
        except (OSError, ValueError):  # damaged, or of a newer version
            continue
        candidates.append((_differences(manifest.ingredients, expected), path.parent))
    if not candidates:
        return ""
    changed, folder = min(candidates, key=lambda candidate: len(candidate[0]))
    return f". The most similar cache, {folder}, differs: {'; '.join(changed)}"
