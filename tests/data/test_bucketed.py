# SPDX-License-Identifier: Apache-2.0
"""Buckets: every image is seen, whatever the ratios, batches and ranks."""

import itertools
import random
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from pippin.control import Size
from pippin.data.cache.build import build_cache
from pippin.data.cache.latent_cache import LatentCache
from pippin.data.config import CacheConfig, CropConfig, ImagesConfig
from pippin.data.loader import LatentLoader
from pippin.data.moments import (
    Bucket,
    BucketedMoments,
    EncodedViews,
    MomentBatch,
    bucket_image_indices,
    bucketed_moments,
)
from pippin.data.sources.images import ImageFolderSource
from pippin.data.views.buckets import bucket_sizes, nearest_bucket, size_name
from pippin.data.views.views import clean_view, counterfactual, make_view, make_views
from pippin.types import Batch, Moments, TextFeatures


class Blank:
    """Blank moments of one size, with their autoencoder."""

    num_views = 2

    def __init__(self, size: Size, count: int) -> None:
        self.shape, self.count = (1, size.height // 16, size.width // 16), count

    def __len__(self) -> int:
        return self.count

    def fetch(self, indices: torch.Tensor, views: torch.Tensor) -> MomentBatch:
        assert len(indices) == 0 or int(indices.max()) < self.count
        mean = views[:, None, None, None].expand(-1, *self.shape).float()
        return MomentBatch(moments=Moments(mean=mean, std=0 * mean), control={}, label=indices)

    fingerprint = "blank"

    def encode(self, pixels: torch.Tensor) -> Moments:
        raise NotImplementedError

    def sample(self, moments: Moments, noise: torch.Tensor) -> torch.Tensor:
        assert noise.shape == moments.mean.shape
        return moments.mean + moments.std * noise


def blank_buckets(image_sizes: list[Size], ratios: tuple[float, ...]) -> BucketedMoments:
    """Buckets of synthetic images that have only sizes."""
    sizes = bucket_sizes(64, ratios, 16)
    mine = [nearest_bucket(sizes, image) for image in image_sizes]
    result = []
    for size in sizes:
        where = torch.tensor(
            [k for k, entry in enumerate(mine) if entry == size], dtype=torch.long
        )
        if len(where):
            result.append(Bucket(size=size, images=where, moments=Blank(size, len(where))))
    return BucketedMoments(result)


def take(source: BucketedMoments, steps: int, world: int = 1, **given: Any) -> list[list[Batch]]:
    """First batches of every rank."""
    return [
        list(
            itertools.islice(
                LatentLoader(
                    source, Blank(Size(16, 16), 0), seed=3, rank=rank, world_size=world, **given
                ),
                steps,
            )
        )
        for rank in range(world)
    ]


@pytest.mark.parametrize("case", range(12))
def test_every_image_is_shown_equally_often_by_any_number_of_processes(case: int) -> None:
    draws = random.Random(case)
    ratios = tuple(
        sorted(draws.sample([0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 4.0], draws.randint(1, 7)))
    )
    count, world = draws.randint(1, 40), case % 4 + 1
    image_sizes = [Size(draws.randint(16, 500), draws.randint(16, 500)) for _ in range(count)]
    batch_size = world * draws.randint(1, 6)
    source = blank_buckets(image_sizes, ratios)
    ranks = take(source, count, world, batch_size=batch_size)  # as many steps as images
    shown: Counter[int] = Counter()
    for step, parts in enumerate(zip(*ranks, strict=True)):
        assert len({part.latents.shape for part in parts}) == 1  # one bucket in all processes
        indices = torch.cat([part.index for part in parts])
        (size,) = {nearest_bucket(bucket_sizes(64, ratios, 16), image_sizes[k]) for k in indices}
        assert parts[0].latents.shape[2:] == (size.height // 16, size.width // 16)
        shown.update(indices.tolist())
        for bucket in source.buckets:
            times = [shown[k] for k in bucket.images.tolist()]
            assert max(times) - min(times) <= 1  # an image k + 1 times only after all k times
            fair = (step + 1) * batch_size * len(times) / count
            assert abs(sum(times) - fair) < batch_size
    assert shown == dict.fromkeys(range(count), batch_size)


@pytest.mark.parametrize(("world", "workers"), [(1, 0), (2, 0), (4, 0), (1, 2)])
def test_processes_workers_and_a_late_start_change_nothing(world: int, workers: int) -> None:
    image_sizes = [Size(30 + 7 * k, 200 - 6 * k) for k in range(20)]
    source = blank_buckets(image_sizes, (0.5, 1.0, 2.0))
    (whole,) = take(source, 30, batch_size=4)
    for first in (0, 17):
        ranks = take(source, 13, world, batch_size=4, start_image=4 * first, workers=workers)
        for step, parts in enumerate(zip(*ranks, strict=True), first):
            assert torch.equal(torch.cat([p.index for p in parts]), whole[step].index)
            assert torch.equal(torch.cat([p.latents for p in parts]), whole[step].latents)


def test_a_pass_of_a_bucket_uses_one_view_and_the_next_one_another() -> None:
    source = blank_buckets([Size(20, 20)] * 4 + [Size(20, 80)] * 8, (0.25, 1.0))
    (batches,) = take(source, 12, batch_size=4)
    views = {
        size: [b.latents[0, 0, 0, 0].item() for b in batches if b.latents.shape[2:] == size]
        for size in ((2, 8), (4, 4))
    }
    assert views == {(4, 4): [0, 1, 0, 1], (2, 8): [0, 0, 1, 1, 0, 0, 1, 1]}


def test_a_bucket_smaller_than_the_batch_wraps_around() -> None:
    source = blank_buckets([Size(20, 20)] * 2 + [Size(20, 80)] * 6, (0.25, 1.0))
    (batches,) = take(source, 8, batch_size=5)
    small = torch.cat([b.index for b in batches if b.latents.shape[2:] == (4, 4)])
    assert len(small) == 10
    assert small.bincount().tolist() == [5, 5]


def test_rows_of_several_buckets_make_no_batch() -> None:
    source = blank_buckets([Size(20, 20), Size(20, 80)], (0.25, 1.0))
    with pytest.raises(ValueError, match="one bucket; got images of 32x128, 64x64"):
        source.fetch(torch.tensor([0, 1]), torch.tensor([0, 0]))


@pytest.fixture
def photos(tmp_path: Path) -> ImagesConfig:
    """Eleven images: portraits, near squares and panoramas."""
    (tmp_path / "photos").mkdir()
    sizes = [(60, 30)] * 5 + [(40, 44)] * 3 + [(20, 80)] * 3
    for number, (height, width) in enumerate(sizes):
        noise = np.random.default_rng(number).integers(0, 256, (height, width, 3), np.uint8)
        Image.fromarray(noise).save(tmp_path / "photos" / f"{number:02}.png")
    return ImagesConfig(
        path=str(tmp_path / "photos"),
        index_folder=str(tmp_path / "index"),
        resolution=32,
        views=2,
        held_out_share=0.01,
        aspect_ratios=(0.25, 1.0, 2.0),
        bucket_step=8,
    )


def test_views_of_a_image_have_the_size_of_its_bucket(photos: ImagesConfig) -> None:
    source = ImageFolderSource(photos, "train")
    result = bucket_image_indices(source)
    assert [size_name(size) for size in result] == ["16x64", "32x32", "48x24"]
    assert sorted(itertools.chain(*result.values())) == list(range(len(source)))
    for size, indices in result.items():
        for index in indices:
            view = make_view(source, index, 1)
            assert view.image.shape == (3, *size)
            same = counterfactual(source, index, view.control, size=size)
            assert torch.equal(same, view.image)
            assert clean_view(source, index).image.shape == (3, 32, 32)
    mixed = [indices[0] for indices in result.values()]
    with pytest.raises(ValueError, match=r"sizes \[\(16, 64\).*make no batch"):
        make_views(source, mixed, [0] * 3)
    assert make_views(source, mixed, [0] * 3, Size(32, 32)).images.shape == (3, 3, 32, 32)


def test_buckets_draw_the_same_numbers_as_squares(photos: ImagesConfig) -> None:
    """If only the flip is random, it equals the flip of the square view."""
    law = CropConfig(smallest=1.0, largest=1.0)
    first, second = (
        ImageFolderSource(
            replace(photos, crop_law=law, aspect_ratios=ratios, bucket_step=step), "train"
        )
        for ratios, step in (((), 16), ((0.25, 1.0, 2.0), 8))
    )
    flips = [[make_view(s, k, 0).control.flip for k in range(len(s))] for s in (first, second)]
    assert flips[0] == flips[1]
    assert len(set(flips[0])) == 2


def test_each_bucket_has_a_cache_of_its_own(photos, encoder, tmp_path: Path) -> None:
    source = ImageFolderSource(photos, "train")
    place = CacheConfig(folder=str(tmp_path / "caches"))
    cached = bucketed_moments(source, lambda part: build_cache(part, encoder, place))
    fresh = bucketed_moments(source, lambda part: EncodedViews(part, encoder))
    caches = [bucket.moments for bucket in cached.buckets]
    assert len({cache.folder for cache in caches if isinstance(cache, LatentCache)}) == 3
    assert sum(map(len, caches)) == len(cached) == len(source)
    for bucket in cached.buckets:
        views = torch.arange(len(bucket.images)) % 2
        a, b = (entry.fetch(bucket.images, views) for entry in (cached, fresh))
        torch.testing.assert_close(a.moments.mean, b.moments.mean, rtol=1e-6, atol=1e-6)
        assert a.moments.mean.shape[2:] == (bucket.size.height // 4, bucket.size.width // 4)
        assert a.label.tolist() == [source.label(k) for k in bucket.images.tolist()]
        sizes = [list(source.original_size(k)) for k in bucket.images.tolist()]
        assert a.control["original_size"].tolist() == sizes
        assert all(torch.equal(a.control[name], b.control[name]) for name in a.control)


def test_a_part_forgets_what_is_known_of_all_images(photos: ImagesConfig) -> None:
    source = ImageFolderSource(photos, "train")
    known = source.source_hash(), source.probe_side
    part = source.subset([2, 0])
    assert [part.key(0), part.key(1)] == [source.key(2), source.key(0)]
    assert part.source_hash() != known[0] == source.source_hash()
    assert part.subset([1, 0]).source_hash() == source.subset([0, 2]).source_hash()
    panoramas = bucket_image_indices(source)[Size(16, 64)]
    assert source.subset(panoramas).probe_side == 20 != known[1]


def test_a_bucket_without_images_is_counted_and_has_no_moments(photos, encoder) -> None:
    source = ImageFolderSource(replace(photos, aspect_ratios=(0.25, 1.0, 2.0, 4.0)), "train")
    assert bucket_image_indices(source)[Size(64, 16)] == []
    result = bucketed_moments(source, lambda part: EncodedViews(part, encoder))
    assert [size_name(bucket.size) for bucket in result.buckets] == ["16x64", "32x32", "48x24"]


def test_captions_are_asked_for_by_the_place_in_the_whole_source() -> None:
    source = blank_buckets([Size(20, 20 + 60 * (k % 2)) for k in range(8)], (0.25, 1.0))
    requests = []

    def captions(indices: torch.Tensor, step: int, batch_size: int, part: slice) -> TextFeatures:
        requests.append((indices.tolist(), step, batch_size, part))
        return TextFeatures(pooled=indices[:, None].float())

    ((first, second),) = take(source, 2, batch_size=4, captions=captions)
    assert [entry[1:] for entry in requests] == [(0, 4, slice(0, 4)), (1, 4, slice(0, 4))]
    for batch, (indices, *_) in zip((first, second), requests, strict=True):
        assert batch.index.tolist() == indices and batch.conditions.text is not None
    assert sorted(first.index.tolist() + second.index.tolist()) == list(range(8))
