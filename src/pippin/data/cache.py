# SPDX-License-Identifier: Apache-2.0
"""The latent cache: moments of every view of every picture, read from shards by memory map."""

from pathlib import Path
from typing import Any

from jaxtyping import Int
from torch import Tensor

from pippin.data.config import CacheConfig
from pippin.data.manifest import (
    Manifest,
    Verify,
    cache_ingredients,
    cache_key,
    check_shards,
    load_manifest,
)
from pippin.data.moments import Encoder, MomentBatch, check_range
from pippin.data.shards import read_shard
from pippin.data.source import PictureSource
from pippin.types import Moments

CONTROL_PREFIX = "control."


class LatentCache:
    """An existing cache; see :class:`pippin.data.moments.MomentSource`.

    Row ``view * num_pictures + index`` holds one view of one picture, so that an epoch, which
    shows one view of each, reads neighbouring shards. Shards are opened when first needed and
    only the rows asked for are read: a cache may be far larger than memory.
    """

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        self.folder = folder
        self.manifest = manifest
        self.num_views = manifest.num_views
        self._opened: dict[int, dict[str, Tensor]] = {}

    @classmethod
    def open(
        cls,
        source: PictureSource,
        encoder: Encoder,
        config: CacheConfig,
        verify: Verify = "sha256",
    ) -> "LatentCache":
        """Open the cache of these pictures, this autoencoder and these settings.

        Args:
            source: the pictures it must have been made of.
            encoder: the autoencoder that must have made it.
            config: its folder and number type.
            verify: ``size`` checks that every shard is there and has its size; ``sha256`` reads
                them all and compares checksums as well.

        Raises:
            CacheError: absent, unfinished, of other settings, or a shard is missing or damaged.
        """
        ingredients = cache_ingredients(source, encoder, config)
        folder = Path(config.folder) / cache_key(ingredients)
        manifest = load_manifest(folder, ingredients)
        check_shards(folder, manifest, verify)
        return cls(folder, manifest)

    def __len__(self) -> int:
        """How many pictures one epoch has."""
        return self.manifest.num_pictures

    def fetch(self, indices: Int[Tensor, " batch"], views: Int[Tensor, " batch"]) -> MomentBatch:
        """See :class:`pippin.data.moments.MomentSource`."""
        check_range("picture index", indices, len(self))
        check_range("view", views, self.num_views)
        rows = self._gather(views * len(self) + indices)
        control = {
            name.removeprefix(CONTROL_PREFIX): value
            for name, value in rows.items()
            if name.startswith(CONTROL_PREFIX)
        }
        moments = Moments(mean=rows["mean"].float(), std=rows["std"].float())
        return MomentBatch(moments=moments, control=control, label=rows["label"])

    def _gather(self, rows: Int[Tensor, " batch"]) -> dict[str, Tensor]:
        """The given rows of every tensor, in order."""
        numbers, places = rows // self.manifest.shard_size, rows % self.manifest.shard_size
        gathered: dict[str, Tensor] = {}
        for number in numbers.unique().tolist():
            where = (numbers == number).nonzero().squeeze(1)
            inside = places[where]
            for name, stored in self._shard(number).items():
                if name not in gathered:
                    gathered[name] = stored.new_empty(len(rows), *stored.shape[1:])
                gathered[name].index_copy_(0, where, stored.index_select(0, inside))
        return gathered

    def _shard(self, number: int) -> dict[str, Tensor]:
        """What a batch needs of one shard, opened once."""
        if number not in self._opened:
            tensors = read_shard(self.folder / self.manifest.shards[number].name)
            del tensors["index"], tensors["view"]  # the row number tells both
            self._opened[number] = tensors
        return self._opened[number]

    def __getstate__(self) -> dict[str, Any]:
        """Leave opened shards behind: another process maps the files itself."""
        return {**self.__dict__, "_opened": {}}
