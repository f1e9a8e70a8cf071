# SPDX-License-Identifier: Apache-2.0
"""Build of a latent cache by any number of processes; resumable and crash-safe."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from pippin.data.cache.build_state import CacheBuildState, Say, open_finished
from pippin.data.cache.latent_cache import CONTROL_PREFIX, LatentCache, stored_moments
from pippin.data.cache.manifest import (
    CacheError,
    Verify,
    cache_ingredients,
    cache_key,
    write_shard,
)
from pippin.data.cache.shard_claims import Ready, ShardClaims
from pippin.data.config import CacheConfig
from pippin.data.moments import Encoder, encode_images
from pippin.data.source import ImageSource
from pippin.data.views.views import ViewBatch, make_views
from pippin.rng import generator
from pippin.system.files import make_folder
from pippin.system.progress import ProgressCallback
from pippin.system.workers.processes import start_worker, watch_workers

Encode = Callable[[ViewBatch], dict[str, Tensor]]
"""Tensors that a shard stores of prepared images, apart from their indices."""


def build_cache(
    source: ImageSource,
    encoder: Encoder,
    config: CacheConfig,
    *,
    device: torch.device | str = "cpu",
    encode_batch: int = 32,
    workers: int = 0,
    verify: Verify = "sha256",
    progress: ProgressCallback | None = None,
    say: Say | None = None,
    ready: Ready | None = None,
) -> LatentCache:
    """Build, finish or repair the cache of these images and settings, and open it.

    Complete shards of these settings are kept; the others are built. Any number of processes may
    call this with the same settings. They share the work: one process builds each shard, and
    another process takes over the claims of a killed one. The content depends neither on the
    number of processes nor on where an earlier build stopped.

    Args:
        source: the images.
        encoder: on ``device``.
        config: folder, dtype and shard size; a build in progress keeps its own shard size.
        device: device of the encoder.
        encode_batch: number of images encoded at once.
        workers: number of processes that prepare images; 0 = this one.
        verify: check of a finished cache; see :meth:`LatentCache.open`.
        progress: called after each encoded batch with the rows that all builders have finished.
        say: called with the reason why an existing cache is not used as it is, and with the names
            of shards that are rebuilt.
        ready: called with the number of missing shards, once existing shards have been checked.

    Raises:
        OSError: the disk is full or not writable; no partial file has a final name.
        FormatError: a newer version built this cache.
        ValueError: the autoencoder returned moments that are not finite, or beyond the range of
            the type on disk.
    """
    ingredients, dtype = cache_ingredients(source, encoder, config), getattr(torch, config.dtype)

    def encode(batch: ViewBatch) -> dict[str, Tensor]:
        moments = encode_images(encoder, batch.images, device)
        control = {f"{CONTROL_PREFIX}{name}": value for name, value in batch.control.items()}
        return {**stored_moments(moments, dtype), "label": batch.label, **control}

    return build_shards(
        source,
        encode,
        config,
        ingredients,
        Path(config.folder) / cache_key(ingredients),
        encode_batch=encode_batch,
        workers=workers,
        verify=verify,
        progress=progress,
        say=say,
        ready=ready,
    )


def build_shards(
    source: ImageSource,
    encode: Encode,
    config: CacheConfig,
    ingredients: dict[str, Any],
    folder: Path,
    *,
    encode_batch: int = 32,
    workers: int = 0,
    verify: Verify = "sha256",
    progress: ProgressCallback | None = None,
    say: Say | None = None,
    ready: Ready | None = None,
) -> LatentCache:
    """Build, finish or repair the shards of one row for each view, and open them.

    Args:
        source: the images.
        encode: tensors of some prepared images.
        config: shard size of a new build.
        ingredients: everything that determines the content.
        folder: folder of the cache.
        encode_batch, workers, verify, progress, say, ready: see :func:`build_cache`.

    Raises:
        OSError, FormatError, ValueError: as :func:`build_cache`.
    """
    ready = ready or (lambda missing: None)
    make_folder(folder)
    try:  # without a lock: many processes may open a finished cache at the same time
        manifest = open_finished(folder, ingredients, verify)
        ready(0)
        return LatentCache(folder, manifest)
    except CacheError:
        pass
    with ShardClaims(folder) as claims:
        state = CacheBuildState(
            source, config, folder, ingredients, claims, say or (lambda text: None)
        )
        finished = state.enter(verify)
        ready(0 if finished else len(claims.missing()))
        if finished:
            return LatentCache(folder, finished)
        builder = _Builder(source, encode, state, encode_batch, workers)
        builder.build(progress or (lambda done, total: None))
        return LatentCache(folder, state.finish())


class _Builder:
    """One process that builds shards."""

    def __init__(
        self,
        source: ImageSource,
        encode: Encode,
        state: CacheBuildState,
        encode_batch: int,
        workers: int,
    ) -> None:
        self.source, self.encode, self.state = source, encode, state
        self.encode_batch, self.workers = encode_batch, workers
        self.ranges = state.ranges(state.claims.shard_size)

    def build(self, progress: ProgressCallback) -> None:
        """Build shards until none is missing; wait for shards of other processes."""
        claims, total = self.state.claims, self.state.total
        progress(claims.rows_done(total), total)
        while claims.missing():
            if not self._build_unclaimed(progress):
                claims.wait_for_shard()
                progress(claims.rows_done(total), total)

    def _build_unclaimed(self, progress: ProgressCallback) -> bool:
        """Build the shards that no other process builds; False if there was none.

        Workers prefetch images of the next shards, so those are claimed ahead of time.
        """
        claims, total = self.state.claims, self.state.total
        claimed = claims.claim_missing()
        first = next(claimed, None)
        if first is None:
            return False
        pending: deque[tuple[int, range]] = deque()
        batches: list[dict[str, Tensor]] = []
        for batch in self._batches(chain([first], claimed), pending):
            number, rows = pending.popleft()
            batches.append(self._encode(rows, batch))
            done = sum(len(batch_tensors["index"]) for batch_tensors in batches)
            if rows.stop == self.ranges[number].stop:
                self._write(number, batches)
                batches, done = [], 0
            progress(claims.rows_done(total) + done, total)
        return True

    def _batches(
        self, shard_numbers: Iterable[int], pending: deque[tuple[int, range]]
    ) -> Iterable[ViewBatch]:
        """Prepared images of shards, in order; shard and rows of each batch go into ``pending``.

        No batch crosses a shard boundary.
        """

        def chunks() -> Iterator[range]:
            for number in shard_numbers:
                for chunk in _chunks(self.ranges[number], self.encode_batch):
                    pending.append((number, chunk))
                    yield chunk

        loader = DataLoader(
            _Rows(self.source),
            batch_size=None,
            sampler=chunks(),
            num_workers=self.workers,
            worker_init_fn=start_worker,
            generator=generator("view"),  # leaves torch's global generator alone
        )
        return watch_workers(loader)

    def _write(self, number: int, batches: list[dict[str, Tensor]]) -> None:
        tensors = {
            name: torch.cat([batch_tensors[name] for batch_tensors in batches])
            for name in batches[0]
        }
        identity = self.state.identity(self.ranges[number])
        write_shard(self.state.path(number), tensors, identity)
        self.state.claims.mark_done(number)

    def _encode(self, rows: range, batch: ViewBatch) -> dict[str, Tensor]:
        """Tensors of one batch, as a shard stores them."""
        numbers, count = torch.arange(rows.start, rows.stop), len(self.source)
        return {**self.encode(batch), "index": numbers % count, "view": numbers // count}


class _Rows(Dataset):
    """Data set of prepared images, indexed by a range of rows."""

    def __init__(self, source: ImageSource) -> None:
        self.source = source

    def __getitem__(self, rows: range) -> ViewBatch:
        num_pictures = len(self.source)
        indices = [row % num_pictures for row in rows]
        return make_views(self.source, indices, [row // num_pictures for row in rows])


def _chunks(rows: range, length: int) -> Sequence[range]:
    """Consecutive chunks of a range, of at most ``length`` rows."""
    return [rows[start : start + length] for start in range(0, len(rows), length)]
