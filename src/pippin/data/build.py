# SPDX-License-Identifier: Apache-2.0
"""Building a latent cache: by any number of processes, resumable, safe against crashes."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from pippin.data.cache import CONTROL_PREFIX, LatentCache
from pippin.data.claims import Claims, Ready
from pippin.data.config import CacheConfig
from pippin.data.manifest import CacheError, Verify, cache_ingredients, cache_key
from pippin.data.moments import Encoder, encode_images
from pippin.data.shards import write_shard
from pippin.data.site import CacheSite, Say, open_finished
from pippin.data.source import PictureSource
from pippin.data.views import ViewBatch, make_views
from pippin.rng import generator
from pippin.system.children import start_worker, watch_workers
from pippin.system.flush import make_folder

Progress = Callable[[int, int], None]
"""Called with (rows done, rows in all)."""


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
    ready: Ready | None = None,
) -> LatentCache:
    """Make the cache of these pictures and settings, or finish or mend one, and open it.

    Shards that are whole and of these settings are kept; the others are made. Any number of
    processes that call this with the same settings share the work, each shard made by one of them;
    what a killed one had claimed is made by another. The content depends neither on their number
    nor on where an earlier build stopped.

    Args:
        source: the pictures.
        encoder: on ``device``.
        config: folder, number type and shard size; while others build, theirs is the shard size.
        device: where the encoder runs.
        encode_batch: how many images are encoded at once.
        workers: processes that prepare images; 0 = this one.
        verify: how a finished cache is checked; see :meth:`LatentCache.open`.
        progress: told of the rows that all builders have done, after each encoded batch.
        say: told why a cache that was there is not used as it is, and which shards are made again.
        ready: told how many shards are missing, when what is there has been checked.

    Raises:
        OSError: the disk is full or not writable; nothing half-written keeps a final name.
        FormatError: a newer version built there.
        ValueError: the autoencoder gave moments that are not finite.
    """
    ingredients = cache_ingredients(source, encoder, config)
    folder = Path(config.folder) / cache_key(ingredients)
    ready = ready or (lambda missing: None)
    make_folder(folder)
    try:  # without any lock: many may open a finished cache at once
        manifest = open_finished(folder, ingredients, verify)
        ready(0)
        return LatentCache(folder, manifest)
    except CacheError:
        pass
    with Claims(folder) as claims:
        site = CacheSite(source, config, folder, ingredients, claims, say or (lambda text: None))
        entered = site.enter(verify)
        ready(0 if entered else len(claims.missing()))
        if entered:
            return LatentCache(folder, entered)
        builder = _Builder(source, encoder, site, device, encode_batch, workers)
        builder.build(progress or (lambda done, total: None))
        return LatentCache(folder, site.finish())


class _Builder:
    """One process that makes shards."""

    def __init__(
        self,
        source: PictureSource,
        encoder: Encoder,
        site: CacheSite,
        device: torch.device | str,
        encode_batch: int,
        workers: int,
    ) -> None:
        self.source, self.encoder, self.site, self.device = source, encoder, site, device
        self.encode_batch, self.workers = encode_batch, workers
        self.ranges = site.ranges(site.claims.shard_size)

    def build(self, progress: Progress) -> None:
        """Make shards until none is missing; wait for those that other processes make."""
        claims, total = self.site.claims, self.site.total
        progress(claims.rows_done(total), total)
        while claims.missing():
            if not self._make_free(progress):
                claims.wait()
                progress(claims.rows_done(total), total)

    def _make_free(self, progress: Progress) -> bool:
        """Make the shards that no other process makes; False = there was none.

        Workers prepare images of the shards to come, so those are claimed a little ahead.
        """
        claims, total = self.site.claims, self.site.total
        free = claims.free()
        first = next(free, None)
        if first is None:
            return False
        coming: deque[tuple[int, range]] = deque()
        parts: list[dict[str, Tensor]] = []
        for batch in self._batches(chain([first], free), coming):
            number, rows = coming.popleft()
            parts.append(self._encoded(rows, batch))
            done = sum(len(part["index"]) for part in parts)
            if rows.stop == self.ranges[number].stop:
                self._write(number, parts)
                parts, done = [], 0
            progress(claims.rows_done(total) + done, total)
        return True

    def _batches(
        self, numbers: Iterable[int], coming: deque[tuple[int, range]]
    ) -> Iterable[ViewBatch]:
        """Prepared images of shards, in order; what each batch is of is put into ``coming``.

        No batch crosses the end of a shard.
        """

        def chunks() -> Iterator[range]:
            for number in numbers:
                for chunk in _chunks(self.ranges[number], self.encode_batch):
                    coming.append((number, chunk))
                    yield chunk

        loader = DataLoader(
            _Rows(self.source),
            batch_size=None,
            sampler=chunks(),
            num_workers=self.workers,
            worker_init_fn=start_worker,
            generator=generator("view"),  # keeps torch from drawing on its global generator
        )
        return watch_workers(loader)

    def _write(self, number: int, parts: list[dict[str, Tensor]]) -> None:
        tensors = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
        identity = self.site.identity(self.ranges[number])
        write_shard(self.site.path(number), tensors, identity)
        self.site.claims.done(number)

    def _encoded(self, rows: range, batch: ViewBatch) -> dict[str, Tensor]:
        """What a shard holds of one batch."""
        moments = encode_images(self.encoder, batch.images, self.device)
        numbers = torch.arange(rows.start, rows.stop)
        return {
            "mean": moments.mean.to(self.site.dtype),
            "std": moments.std.to(self.site.dtype),
            "label": batch.label,
            "index": numbers % len(self.source),
            "view": numbers // len(self.source),
            **{f"{CONTROL_PREFIX}{name}": value for name, value in batch.control.items()},
        }


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
