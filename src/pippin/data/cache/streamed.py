# SPDX-License-Identifier: Apache-2.0
"""Cache of latents that were encoded from the shards of a source, without unpacking them.

    caches/KEY/  manifest.json  shard-00000.json  shard-00000-000.safetensors ...  lock

Each shard of the source has a record and files of its own, so that processes share the work by
shard and a stopped build continues at the first missing one. A file holds all views of some images
of one size. The record is written after the files, and the manifest after all records.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from pippin.config import Config, ConfigError, fingerprint, protocol
from pippin.control import Size
from pippin.data.cache.latent_cache import CONTROL_PREFIX, moments_of
from pippin.data.cache.manifest import (
    CACHE_VERSION,
    MANIFEST,
    PLACES,
    CacheError,
    Verify,
    read_shard,
)
from pippin.data.config import CacheConfig, ImagesConfig
from pippin.data.folder.image_table import ImageTable
from pippin.data.moments import Encoder, MomentBatch, check_range
from pippin.system.files import file_digest

SELECTION = ("held_out_share", "max_pictures")
"""Data settings that choose among encoded images."""


@dataclass(frozen=True, kw_only=True)
class LatentFile(Config):
    """File with the latents of some images of a shard."""

    name: str
    size: tuple[int, int]
    """Height and width of the views in pixels."""
    images: int
    num_bytes: int
    sha256: str


@dataclass(frozen=True, kw_only=True)
class LatentShard(Config):
    """Record of one shard, written after its files."""

    FORMAT = "latent cache"

    key: str
    of: str
    """Name, size and tag of the shard in its source."""
    content: str
    """Hash of the names and bytes of its images, 16 hexadecimal digits."""
    files: tuple[LatentFile, ...]

    def fault(self, folder: Path, verify: Verify) -> str | None:
        """Description of a missing or changed file; None if all are as recorded."""
        for file in self.files:
            path = folder / file.name
            if not path.is_file():
                return f"{path} is missing"
            if (size := path.stat().st_size) != file.num_bytes:
                return f"{path} has {size} bytes instead of {file.num_bytes}"
            if verify == "sha256" and file_digest(path) != file.sha256:
                return f"{path} has a wrong checksum"
        return None


@dataclass(frozen=True, kw_only=True)
class StreamedManifest(Config):
    """Manifest, written last: a cache without it is unfinished."""

    FORMAT = "latent cache"

    key: str
    ingredients: dict[str, Any]
    num_views: int
    shards: tuple[LatentShard, ...]


def streamed_ingredients(
    data: ImagesConfig, encoder: Encoder, cache: CacheConfig, source: Mapping[str, Any]
) -> dict[str, Any]:
    """Everything that determines the latents of all images, as JSON values by name.

    Args:
        data: settings of the views.
        encoder: the autoencoder.
        cache: number type.
        source: source and columns of the shards, and the library that decodes images.
    """
    views = {f"data.{path}": value for path, value in protocol(data).items()}
    for name in (*PLACES, *SELECTION):
        views.pop(f"data.{name}", None)
    values = {
        "cache_version": CACHE_VERSION,
        "autoencoder": encoder.fingerprint,
        "split": "train and held-out",
        "dtype": cache.dtype,
        **{f"shards.{name}": value for name, value in source.items()},
        **views,
    }
    return json.loads(json.dumps(values))


def streamed_folder(cache: CacheConfig, ingredients: Mapping[str, Any]) -> Path:
    """Folder of a cache."""
    return Path(cache.folder) / fingerprint(ingredients)


def shard_record(number: int) -> str:
    """File name of the record of a shard."""
    return f"shard-{number:05d}.json"


class StreamedLatents:
    """Latents of some images of a cache; see :class:`pippin.data.moments.MomentSource`.

    Args:
        folder: folder of the cache.
        manifest: its manifest.
        images: images of one size of views.
        size: that size in pixels.

    Raises:
        CacheError: the cache lacks the latents of an image.
    """

    def __init__(
        self, folder: Path, manifest: StreamedManifest, images: ImageTable, size: Size
    ) -> None:
        self.folder, self.num_views = folder, manifest.num_views
        self._files = [
            file for shard in manifest.shards for file in shard.files if Size(*file.size) == size
        ]
        self.num_bytes = sum(file.num_bytes for file in self._files)
        self._opened: dict[int, dict[str, Tensor]] = {}
        counts = torch.tensor([0, *(file.images for file in self._files)])
        self._first = counts.cumsum(0)
        self._places = self._find(images)
        self._labels = images.class_ids()

    @classmethod
    def open(
        cls,
        images: ImageTable,
        size: Size,
        ingredients: Mapping[str, Any],
        cache: CacheConfig,
        verify: Verify = "sha256",
    ) -> "StreamedLatents":
        """Open the cache of these ingredients.

        Raises:
            CacheError: absent, unfinished, or a file is missing or damaged; the message says what
                to type.
        """
        folder = streamed_folder(cache, ingredients)
        again = "type `pippin data prepare` with the same settings and --shards.source"
        try:
            manifest = StreamedManifest.load(folder / MANIFEST)
        except (FileNotFoundError, ConfigError):
            raise CacheError(
                f"the images of this folder were encoded from shards, and there are no latents of "
                f"these settings at {folder}: {again}"
            ) from None
        for shard in manifest.shards:
            if fault := shard.fault(folder, verify):
                raise CacheError(f"{fault}: {again} to repair it")
        return cls(folder, manifest, images, size)

    def __len__(self) -> int:
        """Number of images in one epoch."""
        return len(self._places)

    def fetch(self, indices: Int[Tensor, " batch"], views: Int[Tensor, " batch"]) -> MomentBatch:
        """See :class:`pippin.data.moments.MomentSource`."""
        check_range("image index", indices, len(self))
        check_range("view", views, self.num_views)
        rows = self._gather(self._places[indices], views)
        control = {
            name.removeprefix(CONTROL_PREFIX): value
            for name, value in rows.items()
            if name.startswith(CONTROL_PREFIX)
        }
        return MomentBatch(moments=moments_of(rows), control=control, label=self._labels[indices])

    def _find(self, images: ImageTable) -> Int[Tensor, " images"]:
        """Place of each image among all images of the files."""
        numbers = torch.cat([torch.empty(0, dtype=torch.long), *map(self._numbers, self._files)])
        wanted = images.numbers()
        places = torch.searchsorted(numbers, wanted)
        stored = numbers[places.clamp(max=max(0, len(numbers) - 1))] if len(numbers) else None
        if stored is None or not torch.equal(stored, wanted):
            missing = 0 if stored is None else int((stored != wanted).nonzero()[0])
            raise CacheError(
                f"{self.folder} has no latents of {images.name(missing)}: remove it and build it "
                "again"
            )
        return places

    def _numbers(self, file: LatentFile) -> Int[Tensor, " images"]:
        return read_shard(self.folder / file.name)["number"].clone()

    def _gather(self, places: Tensor, views: Tensor) -> dict[str, Tensor]:
        """Rows of every tensor, in the given order."""
        numbers = torch.searchsorted(self._first, places, right=True) - 1
        offsets = places - self._first[numbers]
        gathered: dict[str, Tensor] = {}
        for number in numbers.unique().tolist():
            positions = (numbers == number).nonzero().squeeze(1)
            for name, values in self._open(number).items():
                rows = values[offsets[positions], views[positions]]
                if name not in gathered:
                    gathered[name] = rows.new_zeros(len(places), *rows.shape[1:])
                gathered[name].index_copy_(0, positions, rows)
        return gathered

    def _open(self, number: int) -> dict[str, Tensor]:
        """Tensors of one file that a batch needs; it is opened once."""
        if number not in self._opened:
            tensors = read_shard(self.folder / self._files[number].name)
            del tensors["number"]
            self._opened[number] = tensors
        return self._opened[number]

    def __getstate__(self) -> dict[str, Any]:
        """Drop open files: another process maps them itself."""
        return {**self.__dict__, "_opened": {}}
