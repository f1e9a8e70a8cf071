# SPDX-License-Identifier: Apache-2.0
"""The endless sequence of training samples, and batches from any place in it.

Sample k belongs to epoch k // n and shows, as view ``epoch mod num_views``, the picture at place
k mod n of that epoch's random order. So a run resumes at an image count alone: no state of a
generator or a loader is stored.

With buckets every step draws from one of them, in turn (:mod:`pippin.data.turns`), and each has an
endless sequence of its own.
"""

import itertools
from collections.abc import Callable, Iterator

import torch
from jaxtyping import Int
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from pippin.data.bucketed import BucketedMoments
from pippin.data.buckets import size_name
from pippin.data.moments import EncodedViews, Encoder, MomentBatch, MomentSource
from pippin.data.turns import Turn, turns
from pippin.data.views import ViewBatch
from pippin.rng import generator, normal, permutation
from pippin.system.children import start_worker, watch_workers
from pippin.system.device import to_device
from pippin.types import Batch, Conditions, Moments, TextFeatures


class Samples:
    """An endless sequence of samples, in which every picture comes once in each epoch.

    Args:
        num_pictures: n, the length of an epoch.
        num_views: epoch e uses view e mod num_views.
        seed: of the order.
        bucket: the name of the bucket, where there are several sequences.
    """

    def __init__(self, num_pictures: int, num_views: int, seed: int, *bucket: str) -> None:
        self.num_pictures, self.num_views = num_pictures, num_views
        self._key = (seed, bucket)
        self._epoch: int | None = None
        self._order = torch.empty(0, dtype=torch.long)

    def keys(self, start: int, count: int) -> tuple[Int[Tensor, " count"], Int[Tensor, " count"]]:
        """Picture index and view of the samples start .. start + count - 1.

        Args:
            start: number of the first sample, from 0.
            count: how many; 1 or more.
        """
        indices, views = [], []
        stop = start + count
        while start < stop:
            epoch, place = divmod(start, self.num_pictures)
            part = self._order_of(epoch)[place : place + stop - start]
            indices.append(part)
            views.append(torch.full_like(part, epoch % self.num_views))
            start += len(part)
        return torch.cat(indices), torch.cat(views)

    def _order_of(self, epoch: int) -> Tensor:
        """The last one is kept: a batch needs a slice of it, and the next one goes on there."""
        if epoch != self._epoch:
            seed, bucket = self._key
            self._order = permutation(self.num_pictures, "order", seed, epoch, *bucket)
            self._epoch = epoch
        return self._order


Captions = Callable[[Int[Tensor, " batch"], int, int, slice], TextFeatures]
"""(picture indices of a part, step, global batch size, the part) -> what a model of text reads."""


class LatentLoader:
    """Batches of latents and conditions, without end.

    Args:
        source: moments, cached or encoded on the fly.
        encoder: turns moments and noise into normalised latents; on ``device``.
        batch_size: of the global batch.
        seed: of the order and of the posterior's noise.
        start_image: how many images the run has seen; a multiple of ``batch_size``.
        workers: processes that fetch ahead; 0 = this one. The batches are the same. What is not
            cached is encoded in this process; those make its images.
        rank: this process; it gets part ``rank`` of ``world_size`` equal parts of each global
            batch. Orders and noise are drawn for the global batch and sliced.
        world_size: how many processes share each batch.
        device: where latents are drawn and returned; the rest of a batch stays on the CPU, but for
            captions, which stay where ``captions`` gives them.
        captions: for models of text.

    Raises:
        ValueError: an empty source, or numbers that do not divide.
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
            raise ValueError("there is nothing to load: the source has no pictures")
        if start_image % batch_size:
            raise ValueError(
                f"start_image must be a multiple of batch_size, {batch_size}; got {start_image}"
            )
        if batch_size % world_size:
            raise ValueError(
                f"batch_size must be a multiple of the {world_size} processes; got {batch_size}"
            )
        self._source, self._encoder, self._device = source, encoder, device
        self._batch_size, self._seed, self._captions = batch_size, seed, captions
        self._first_step, self._workers = start_image // batch_size, workers
        share = batch_size // world_size
        self._part = slice(rank * share, (rank + 1) * share)

    def __iter__(self) -> Iterator[Batch]:
        """From ``start_image`` on."""
        steps = _Steps(self._source, self._batch_size, self._seed, self._part)
        loader = DataLoader(
            steps,
            batch_size=None,
            sampler=_Turns(steps.pictures, self._first_step),
            num_workers=self._workers,
            worker_init_fn=start_worker,
            generator=generator("order", self._seed),  # leaves torch's global generator alone
        )
        for step, (indices, fetched) in zip(
            itertools.count(self._first_step), watch_workers(loader), strict=False
        ):
            yield self._batch(step, indices, steps.moments(indices, fetched))

    def _batch(self, step: int, indices: Int[Tensor, " batch"], fetched: MomentBatch) -> Batch:
        """Draw the latents of one step."""
        mean, std = fetched.moments.mean, fetched.moments.std
        noise = normal((self._batch_size, *mean.shape[1:]), "posterior", self._seed, step)
        moments = Moments(mean=to_device(mean, self._device), std=to_device(std, self._device))
        text = None
        if self._captions is not None:
            text = self._captions(indices, step, self._batch_size, self._part)
        return Batch(
            latents=self._encoder.draw(moments, to_device(noise[self._part], self._device)),
            conditions=Conditions(label=fetched.label, text=text, control=fetched.control),
            index=indices,
        )


class _Steps(Dataset):
    """A step's turn -> (picture indices, moments) of this process's part of the batch.

    Where moments are encoded on the fly, workers make the images alone: the encoder may live on a
    card, which forked processes cannot use.
    """

    def __init__(self, source: MomentSource, batch_size: int, seed: int, part: slice) -> None:
        self.source, self.batch_size, self.part = source, batch_size, part
        self.buckets = source.buckets if isinstance(source, BucketedMoments) else None
        names = [[]] if self.buckets is None else [[size_name(x.size)] for x in self.buckets]
        self.samples = [
            Samples(count, source.num_views, seed, *name)
            for count, name in zip(self.pictures, names, strict=True)
        ]

    @property
    def pictures(self) -> list[int]:
        """How many each bucket has; without buckets all are one."""
        if self.buckets is None:
            return [len(self.source)]
        return [len(bucket.pictures) for bucket in self.buckets]

    def __getitem__(self, turn: Turn) -> tuple[Tensor, MomentBatch | ViewBatch]:
        samples = self.samples[turn.bucket]
        indices, views = samples.keys(turn.number * self.batch_size, self.batch_size)
        indices, views = indices[self.part], views[self.part]
        if self.buckets is not None:
            indices = self.buckets[turn.bucket].pictures[indices]
        source, places = self._located(indices)
        if isinstance(source, EncodedViews):
            return indices, source.images(places, views)
        return indices, source.fetch(places, views)

    def moments(self, indices: Tensor, fetched: MomentBatch | ViewBatch) -> MomentBatch:
        """What was fetched, encoded where it is not yet; in the process that has the encoder."""
        if isinstance(fetched, MomentBatch):
            return fetched
        source, _ = self._located(indices)
        assert isinstance(source, EncodedViews)
        return source.encoded(fetched)

    def _located(self, indices: Tensor) -> tuple[MomentSource, Tensor]:
        if isinstance(self.source, BucketedMoments):
            return self.source.located(indices)
        return self.source, indices


class _Turns:
    """The turns of all steps from the first one on; can be iterated again."""

    def __init__(self, pictures: list[int], first: int) -> None:
        self.pictures, self.first = pictures, first

    def __iter__(self) -> Iterator[Turn]:
        return turns(self.pictures, self.first)
