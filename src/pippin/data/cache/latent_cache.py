# SPDX-License-Identifier: Apache-2.0
"""Latent cache: moments of every view of every image, in memory-mapped shards."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from pippin.data.cache.casting import cast
from pippin.data.cache.manifest import (
    Manifest,
    Verify,
    cache_ingredients,
    cache_key,
    check_shards,
    load_manifest,
    read_shard,
)
from pippin.data.config import CacheConfig
from pippin.data.moments import Encoder, MomentBatch, check_range
from pippin.data.source import ImageSource
from pippin.types import Moments

CONTROL_PREFIX = "control."
MEAN, STD = "mean", "std"
"""Names of the moments in a shard; the latents of a deterministic encoder have no deviation."""


def stored_moments(moments: Moments, dtype: torch.dtype) -> dict[str, Tensor]:
    """Tensors that a shard stores of moments.

    Raises:
        ValueError: a moment is beyond the range of the type.
    """
    tensors = {MEAN: cast(moments.mean, dtype, "means of latents", "cache.dtype")}
    if moments.std is not None:
        tensors[STD] = cast(moments.std, dtype, "deviations of latents", "cache.dtype")
    return tensors


def moments_of(rows: Mapping[str, Tensor]) -> Moments:
    """Moments of rows of a shard, in float32."""
    std = rows[STD].float() if STD in rows else None
    return Moments(mean=rows[MEAN].float(), std=std)


class LatentCache:
    """Existing cache; see :class:`pippin.data.moments.MomentSource`.

    Row ``view * num_pictures + index`` holds one view of one image. An epoch uses one view of each
    image, so it reads neighbouring shards. Shards are opened on first use and only the requested
    rows are read: a cache may be far larger than memory.
    """

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        self.folder = folder
        self.manifest = manifest
        self.num_views = manifest.num_views
        self._opened: dict[int, dict[str, Tensor]] = {}

    @classmethod
    def open(
        cls,
        source: ImageSource,
        encoder: Encoder,
        config: CacheConfig,
        verify: Verify = "sha256",
    ) -> "LatentCache":
        """Open the cache that belongs to images, autoencoder and settings.

        Args:
            source: the images of the cache.
            encoder: the autoencoder of the cache.
            config: folder and dtype.
            verify: ``size`` checks that every shard exists and has the recorded size; ``sha256``
                also reads all shards and compares checksums.

        Raises:
            CacheError: absent, unfinished, built with other settings, or a shard is missing or
                damaged.
        """
        ingredients = cache_ingredients(source, encoder, config)
        folder = Path(config.folder) / cache_key(ingredients)
        manifest = load_manifest(folder, ingredients)
        check_shards(folder, manifest, verify)
        return cls(folder, manifest)

    @property
    def num_bytes(self) -> int:
        """Size of all shards."""
        return sum(shard.num_bytes for shard in self.manifest.shards)

    @property
    def channels(self) -> int:
        """Number of latent channels."""
        return self._shard(0)[MEAN].shape[1]

    def __len__(self) -> int:
        """Number of images in one epoch."""
        return self.manifest.num_pictures

    def fetch(self, indices: Int[Tensor, " batch"], views: Int[Tensor, " batch"]) -> MomentBatch:
        """See :class:`pippin.data.moments.MomentSource`."""
        rows = self.rows(indices, views)
        control = {
            name.removeprefix(CONTROL_PREFIX): value
            for name, value in rows.items()
            if name.startswith(CONTROL_PREFIX)
        }
        return MomentBatch(moments=moments_of(rows), control=control, label=rows["label"])

    def rows(
        self, indices: Int[Tensor, " batch"], views: Int[Tensor, " batch"]
    ) -> dict[str, Tensor]:
        """Stored tensors of view ``views[k]`` of image ``indices[k]``.

        Raises:
            ValueError: an index or a view is out of range.
        """
        check_range("image index", indices, len(self))
        check_range("view", views, self.num_views)
        return self._gather(views * len(self) + indices)

    def _gather(self, rows: Int[Tensor, " batch"]) -> dict[str, Tensor]:
        """Rows of every tensor, in the given order."""
        shard_numbers, offsets = rows // self.manifest.shard_size, rows % self.manifest.shard_size
        gathered: dict[str, Tensor] = {}
        for number in shard_numbers.unique().tolist():
            positions = (shard_numbers == number).nonzero().squeeze(1)
            rows_in_shard = offsets[positions]
            for name, values in self._shard(number).items():
                if name not in gathered:  # zeros: an earlier version stored deviations of 0
                    gathered[name] = values.new_zeros(len(rows), *values.shape[1:])
                gathered[name].index_copy_(0, positions, values.index_select(0, rows_in_shard))
        return gathered

    def _shard(self, number: int) -> dict[str, Tensor]:
        """Tensors of one shard that a batch needs; the file is opened once."""
        if number not in self._opened:
            tensors = read_shard(self.folder / self.manifest.shards[number].name)
            del tensors["index"], tensors["view"]  # both follow from the row number
            self._opened[number] = tensors
        return self._opened[number]

    def __getstate__(self) -> dict[str, Any]:
        """Drop open shards: another process maps the files itself."""
        return {**self.__dict__, "_opened": {}}
