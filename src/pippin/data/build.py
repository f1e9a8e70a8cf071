# SPDX-License-Identifier: Apache-2.0
"""Building a latent cache: resumable, safe against crashes and against a second builder."""

import fcntl
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from pippin.data.cache import CONTROL_PREFIX, LatentCache
from pippin.data.config import CacheConfig
from pippin.data.manifest import (
    MANIFEST,
    CacheError,
    Manifest,
    ShardEntry,
    Verify,
    cache_ingredients,
    cache_key,
    check_shards,
    load_manifest,
)
from pippin.data.moments import Encoder, encode_images
from pippin.data.shards import shard_fault, shard_name, write_shard
from pippin.data.source import PictureSource
from pippin.data.views import ViewBatch, make_views
from pippin.rng import generator
from pippin.system.files import file_digest, remove_staged

Progress = Callable[[int, int], None]
"""Called with (rows done, rows in all)."""
Say = Callable[[str], None]
"""Called with a sentence for the user."""


def build_cache(
    source: PictureSource,
    encoder: Encoder,
    config: CacheConfig,
    *,
    device: torch.device | str = "cpu",
    encode_batch: int = 32,
    workers: int = 0,
    verify: Verify = "sha256",
    progress: Progress | None = None,
    say: Say | None = None,
) -> LatentCache:
    """Make the cache of these pictures and settings, or finish or mend one, and open it.

    Shards that are whole and of these settings are kept; the others are made. The content does
    not depend on where an earlier build stopped. A second process that builds the same cache
    waits for the first and then finds it finished.

    Args:
        source: the pictures.
        encoder: on ``device``.
        config: folder, number type and shard size.
        device: where the encoder runs.
        encode_batch: how many images are encoded at once.
        workers: processes that prepare images; 0 = this one.
        verify: how a finished cache is checked; see :meth:`LatentCache.open`.
        progress: told after every encoded batch and every shard that was kept.
        say: told why a cache that was there is not used as it is, and which shards are made again.

    Raises:
        OSError: the disk is full or not writable; nothing half-written keeps a final name.
        ValueError: the autoencoder gave moments that are not finite.
    """
    ingredients = cache_ingredients(source, encoder, config)
    folder = Path(config.folder) / cache_key(ingredients)
    folder.mkdir(parents=True, exist_ok=True)
    with _only_builder(folder):
        try:
            manifest = load_manifest(folder, ingredients)
            check_shards(folder, manifest, verify)
        except CacheError as error:
            say = say or (lambda text: None)
            if any(folder.glob("shard-*")) or (folder / MANIFEST).exists():
                say(str(error))
            builder = _Builder(source, encoder, config, folder, device, encode_batch, workers)
            manifest = builder.build(ingredients, progress or (lambda done, total: None), say)
    return LatentCache(folder, manifest)


@contextmanager
def _only_builder(folder: Path) -> Iterator[None]:
    """Wait until no other process builds here. The system frees the lock of a killed process."""
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


class _Builder:
    """One build, under the lock."""

    def __init__(
        self,
        source: PictureSource,
        encoder: Encoder,
        config: CacheConfig,
        folder: Path,
        device: torch.device | str,
        encode_batch: int,
        workers: int,
    ) -> None:
        self.source, self.encoder, self.config, self.folder = source, encoder, config, folder
        self.device, self.encode_batch, self.workers = device, encode_batch, workers
        self.dtype: torch.dtype = getattr(torch, config.dtype)
        self.total = len(source) * source.config.views

    def build(self, ingredients: dict[str, Any], progress: Progress, say: Say) -> Manifest:
        """Make what is missing and write the manifest."""
        key, size = cache_key(ingredients), self.config.shard_size
        ranges = [range(a, min(a + size, self.total)) for a in range(0, self.total, size)]
        identities = [{"key": key, "first_row": r.start, "end_row": r.stop} for r in ranges]
        finished = (self.folder / MANIFEST).exists()
        self._clear(len(ranges))
        missing = []
        for number, identity in enumerate(identities):
            path = self.folder / shard_name(number)
            fault = shard_fault(path, identity)
            if fault is not None:
                missing.append(number)
                if finished or path.exists():
                    say(f"{path} is {fault}: it is made again")
        done = self.total - sum(len(ranges[number]) for number in missing)
        progress(done, self.total)
        batches = iter(self._batches([ranges[number] for number in missing]))
        for number in missing:
            parts = []
            for rows in _chunks(ranges[number], self.encode_batch):
                parts.append(self._encoded(rows, next(batches)))
                done += len(parts[-1]["index"])
                progress(done, self.total)
            tensors = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
            write_shard(self.folder / shard_name(number), tensors, identities[number])
        manifest = self._manifest(ingredients, ranges)
        manifest.save(self.folder / MANIFEST)
        return manifest

    def _clear(self, num_shards: int) -> None:
        """Remove what a stopped or differently sharded build left behind."""
        wanted = {shard_name(number) for number in range(num_shards)}
        (self.folder / MANIFEST).unlink(missing_ok=True)
        remove_staged(self.folder)
        for path in self.folder.glob("shard-*.safetensors"):
            if path.name not in wanted:
                path.unlink()

    def _batches(self, ranges: list[range]) -> DataLoader:
        """Prepared images, in order; no batch crosses the end of a range."""
        chunks = [chunk for rows in ranges for chunk in _chunks(rows, self.encode_batch)]
        return DataLoader(
            _Rows(self.source),
            batch_size=None,
            sampler=chunks,
            num_workers=self.workers,
            generator=generator("view"),  # keeps torch from drawing on its global generator
        )

    def _encoded(self, rows: range, batch: ViewBatch) -> dict[str, Tensor]:
        """What a shard holds of one batch."""
        moments = encode_images(self.encoder, batch.images, self.device)
        numbers = torch.arange(rows.start, rows.stop)
        return {
            "mean": moments.mean.to(self.dtype),
            "std": moments.std.to(self.dtype),
            "label": batch.label,
            "index": numbers % len(self.source),
            "view": numbers // len(self.source),
            **{f"{CONTROL_PREFIX}{name}": value for name, value in batch.control.items()},
        }

    def _manifest(self, ingredients: dict[str, Any], ranges: list[range]) -> Manifest:
        entries = []
        for number, rows in enumerate(ranges):
            path = self.folder / shard_name(number)
            entries.append(
                ShardEntry(
                    name=path.name,
                    first_row=rows.start,
                    end_row=rows.stop,
                    num_bytes=path.stat().st_size,
                    sha256=file_digest(path),
                )
            )
        return Manifest(
            key=cache_key(ingredients),
            ingredients=ingredients,
            num_pictures=len(self.source),
            num_views=self.source.config.views,
            shard_size=self.config.shard_size,
            shards=tuple(entries),
        )


class _Rows(Dataset):
    """Range of rows -> prepared images."""

    def __init__(self, source: PictureSource) -> None:
        self.source = source

    def __getitem__(self, rows: range) -> ViewBatch:
        num_pictures = len(self.source)
        indices = [row % num_pictures for row in rows]
        return make_views(self.source, indices, [row // num_pictures for row in rows])


def _chunks(rows: range, length: int) -> Sequence[range]:
    """Neighbouring parts of a range, of at most ``length``."""
    return [rows[start : start + length] for start in range(0, len(rows), length)]
