# SPDX-License-Identifier: Apache-2.0
"""Data loader: batches of an infinite sequence of training samples, from any position.

Sample k belongs to epoch k // n. It is view ``epoch mod num_views`` of the image at position
k mod n in the random order of that epoch. A run therefore resumes from its image count: no state
of a generator or a loader is stored.

With buckets, every step draws from one bucket (:mod:`pippin.data.views.buckets`), and each
bucket has its own infinite sequence.
"""

import itertools
from collections.abc import Callable, Iterator

import torch
from jaxtyping import Int
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from pippin.data.moments import BucketedMoments, EncodedViews, Encoder, MomentBatch, MomentSource
from pippin.data.views.buckets import BucketTurn, bucket_turns, size_name
from pippin.data.views.views import ViewBatch
from pippin.rng import generator, normal, permutation
from pippin.system.device import to_device
from pippin.system.workers.processes import start_worker, watch_workers
from pippin.types import Batch, Conditions, Moments, TextFeatures


class Samples:
    """Infinite sequence of samples in which every image occurs once in each epoch.

    Args:
        num_pictures: n, the length of an epoch.
        num_views: epoch e uses view e mod num_views.
        seed: seed of the order.
        bucket: name of the bucket, if there are several sequences.
    """

    def __init__(self, num_pictures: int, num_views: int, seed: int, *bucket: str) -> None:
        self.num_pictures, self.num_views = num_pictures, num_views
        self._key = (seed, bucket)
        self._epoch: int | None = None
        self._order = torch.empty(0, dtype=torch.long)

    def keys(self, start: int, count: int) -> tuple[Int[Tensor, " count"], Int[Tensor, " count"]]:
        """Image index and view of the samples start .. start + count - 1.

        Args:
            start: index of the first sample, from 0.
            count: number of samples; 1 or more.
        """
        indices, views = [], []
        stop = start + count
        while start < stop:
            epoch, offset = divmod(start, self.num_pictures)
            part = self._epoch_order(epoch)[offset : offset + stop - start]
            indices.append(part)
            views.append(torch.full_like(part, epoch % self.num_views))
            start += len(part)
        return torch.cat(indices), torch.cat(views)

    def _epoch_order(self, epoch: int) -> Tensor:
        """Random order of an epoch; the latest one is cached, because batches are slices of it."""
        if epoch != self._epoch:
            seed, bucket = self._key
            self._order = permutation(self.num_pictures, "order", seed, epoch, *bucket)
            self._epoch = epoch
        return self._order


Captions = Callable[[Int[Tensor, " batch"], int, int, slice], TextFeatures]
"""(image indices of a part, step, global batch size, the part) -> text features."""


class LatentLoader:
    """Infinite iterator over batches of latents and conditions.

    Args:
        source: moments, cached or encoded on the fly.
        encoder: autoencoder that samples normalised latents from moments and noise, on ``device``.
        batch_size: global batch size.
        seed: seed of the order and of the posterior noise.
        start_image: number of images seen so far; a multiple of ``batch_size``.
        workers: number of processes that prefetch; 0 = this process. Batches do not depend on it.
            Without a cache, workers prepare the images and this process encodes them.
        rank: rank of this process; it gets part ``rank`` of ``world_size`` equal parts of each
            global batch. Orders and noise are drawn for the global batch and sliced.
        world_size: number of data-parallel ranks.
        device: device of the latents; other tensors of a batch stay on the CPU, except captions,
            which stay on the device that ``captions`` returns.
        captions: caption features, for text-conditional models.

    Raises:
        ValueError: an empty source, or sizes that are not divisible.
    """

    def __init__(
        self,
        source: MomentSource,
        encoder: Encoder,
        *,
        batch_size: int,
        seed: int,
        start_image: int = 0,
        workers: int = 0,
        rank: int = 0,
        world_size: int = 1,
        device: torch.device | str = "cpu",
        captions: Captions | None = None,
    ) -> None:
        if len(source) == 0:
            raise ValueError("there is nothing to load: the source has no images")
        if start_image % batch_size:
            raise ValueError(
                f"start_image must be a multiple of batch_size, {batch_size}; got {start_image}"
            )
        if batch_size % world_size:
            raise ValueError(
                f"batch_size must be a multiple of the world size, {world_size}; got {batch_size}"
            )
        self._source, self._encoder, self._device = source, encoder, device
        self._batch_size, self._seed, self._captions = batch_size, seed, captions
        self._first_step, self._workers = start_image // batch_size, workers
        share = batch_size // world_size
        self._part = slice(rank * share, (rank + 1) * share)

    def __iter__(self) -> Iterator[Batch]:
        """Iterate from ``start_image``."""
        steps = _Steps(self._source, self._batch_size, self._seed, self._part)
        loader = DataLoader(
            steps,
            batch_size=None,
            sampler=_TurnSampler(steps.image_counts, self._first_step),
            num_workers=self._workers,
            worker_init_fn=start_worker,
            generator=generator("order", self._seed),  # leaves torch's global generator alone
        )
        for step, (indices, sample) in zip(
            itertools.count(self._first_step), watch_workers(loader), strict=False
        ):
            yield self._batch(step, indices, steps.moments(indices, sample))

    def _batch(self, step: int, indices: Int[Tensor, " batch"], sample: MomentBatch) -> Batch:
        """Sample the latents of one step."""
        mean, std = sample.moments.mean, sample.moments.std
        noise = None
        if std is not None:  # a deterministic encoder has no posterior to draw from
            drawn = normal((self._batch_size, *mean.shape[1:]), "posterior", self._seed, step)
            noise = to_device(drawn[self._part], self._device)
        moments = Moments(
            mean=to_device(mean, self._device),
            std=None if std is None else to_device(std, self._device),
        )
        text = None
        if self._captions is not None:
            text = self._captions(indices, step, self._batch_size, self._part)
        return Batch(
            latents=self._encoder.sample(moments, noise),
            conditions=Conditions(label=sample.label, text=text, control=sample.control),
            index=indices,
            features=sample.features,
        )


class _Steps(Dataset):
    """Data set that maps the turn of a step to (image indices, moments) of this rank's batch.

    Without a cache, workers only prepare the images: the encoder may be on a GPU, which forked
    processes cannot use.
    """

    def __init__(self, source: MomentSource, batch_size: int, seed: int, part: slice) -> None:
        self.source, self.batch_size, self.part = source, batch_size, part
        self.buckets = source.buckets if isinstance(source, BucketedMoments) else None
        bucket_names = (
            [[]] if self.buckets is None else [[size_name(x.size)] for x in self.buckets]
        )
        self.samples = [
            Samples(count, source.num_views, seed, *name)
            for count, name in zip(self.image_counts, bucket_names, strict=True)
        ]

    @property
    def image_counts(self) -> list[int]:
        """Number of images of each bucket; without buckets there is one."""
        if self.buckets is None:
            return [len(self.source)]
        return [len(bucket.images) for bucket in self.buckets]

    def __getitem__(self, turn: BucketTurn) -> tuple[Tensor, MomentBatch | ViewBatch]:
        samples = self.samples[turn.bucket]
        indices, views = samples.keys(turn.number * self.batch_size, self.batch_size)
        indices, views = indices[self.part], views[self.part]
        if self.buckets is not None:
            indices = self.buckets[turn.bucket].images[indices]
        source, places = self._locate(indices)
        if isinstance(source, EncodedViews):
            return indices, source.images(places, views)
        return indices, source.fetch(places, views)

    def moments(self, indices: Tensor, sample: MomentBatch | ViewBatch) -> MomentBatch:
        """Moments of a sample; encodes images in the process that has the encoder."""
        if isinstance(sample, MomentBatch):
            return sample
        source, _ = self._locate(indices)
        assert isinstance(source, EncodedViews)
        return source.encode(sample)

    def _locate(self, indices: Tensor) -> tuple[MomentSource, Tensor]:
        if isinstance(self.source, BucketedMoments):
            return self.source.locate(indices)
        return self.source, indices


class _TurnSampler:
    """Sampler of bucket turns from the first step; can be iterated repeatedly."""

    def __init__(self, image_counts: list[int], first: int) -> None:
        self.image_counts, self.first = image_counts, first

    def __iter__(self) -> Iterator[BucketTurn]:
        return bucket_turns(self.image_counts, self.first)
