# SPDX-License-Identifier: Apache-2.0
import itertools
import multiprocessing
import os
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pippin.control import Size
from pippin.data import loader as loader_module
from pippin.data.cache.build import build_cache
from pippin.data.config import CacheConfig
from pippin.data.loader import LatentLoader, Samples
from pippin.data.moments import Bucket, BucketedMoments, EncodedViews, MomentBatch, MomentSource
from pippin.data.views.buckets import bucket_turns
from pippin.rng import normal, permutation
from pippin.system.signals import ignore_signals_in_worker
from pippin.types import Batch, Moments


@pytest.fixture
def cached(noise_source, encoder, tmp_path: Path) -> MomentSource:
    return build_cache(noise_source, encoder, CacheConfig(folder=str(tmp_path), shard_size=4))


def take(count: int, *args: object, **settings: object) -> list[Batch]:
    return list(itertools.islice(LatentLoader(*args, **settings), count))


def same(first: Batch, second: Batch) -> bool:
    a, b = first.conditions, second.conditions
    return (
        torch.equal(first.latents, second.latents)
        and torch.equal(first.index, second.index)
        and torch.equal(a.label, b.label)
        and a.control.keys() == b.control.keys()
        and all(torch.equal(a.control[name], b.control[name]) for name in a.control)
    )


def test_each_epoch_shows_every_image_once_in_another_order() -> None:
    indices, views = Samples(7, 3, 1).keys(0, 7 * 5)
    epochs = indices.reshape(5, 7)
    assert epochs.sort(dim=1).values.tolist() == [list(range(7))] * 5
    assert len({tuple(epoch) for epoch in epochs.tolist()}) > 1
    assert views.reshape(5, 7).tolist() == [[e % 3] * 7 for e in range(5)]
    assert torch.equal(epochs[2], permutation(7, "order", 1, 2))


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 60), st.integers(1, 40), st.integers(1, 9), st.integers(1, 4))
def test_any_stretch_is_a_part_of_the_whole_sequence(
    start: int, count: int, num_pictures: int, num_views: int
) -> None:
    whole = Samples(num_pictures, num_views, 3).keys(0, start + count)
    part = Samples(num_pictures, num_views, 3).keys(start, count)
    assert all(torch.equal(a[start:], b) for a, b in zip(whole, part, strict=True))


class Blank:
    """Moments of 10 images with unused values."""

    num_views = 2

    def __len__(self):
        return 10

    def fetch(self, indices, views):
        rows = torch.zeros(len(indices), 1, 1, 1)
        return MomentBatch(moments=Moments(mean=rows, std=rows), control={}, label=indices)


def test_each_order_is_drawn_once_however_many_buckets_there_are(monkeypatch) -> None:
    """The order is as long as the bucket: a draw at every step would dominate the step time."""
    drawn: list[tuple] = []

    def counted(length, *key):
        drawn.append(key)
        return permutation(length, *key)

    monkeypatch.setattr(loader_module, "permutation", counted)
    sizes = [Size(16 * (number + 1), 16) for number in range(70)]
    places = torch.arange(700).split(10)
    buckets = [
        Bucket(size=size, images=part, moments=Blank())
        for size, part in zip(sizes, places, strict=True)
    ]
    steps = loader_module._Steps(BucketedMoments(buckets), 4, 0, slice(0, 4))
    for turn in itertools.islice(
        bucket_turns(steps.image_counts, 0), 3 * 175
    ):  # three epochs of 700
        steps[turn]
    assert len(set(drawn)) == len(drawn) >= 2 * 70


def test_a_batch_is_what_the_keys_say(cached, encoder) -> None:
    batch = take(3, cached, encoder, batch_size=4, seed=9)[2]
    indices, views = Samples(7, 3, 9).keys(8, 4)
    assert torch.equal(batch.index, indices)
    result = cached.fetch(indices, views)
    noise = normal(tuple(result.moments.mean.shape), "posterior", 9, 2)
    assert torch.equal(batch.latents, encoder.sample(result.moments, noise))
    assert torch.equal(batch.conditions.label, result.label)
    corner = batch.conditions.control["crop_corner"]
    assert torch.equal(corner, result.control["crop_corner"])


def test_no_noise_is_drawn_for_a_deterministic_encoder(
    cached, encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The noise has its own stream: order and conditions do not change."""
    expected = take(2, cached, encoder, batch_size=4, seed=9)

    class Deterministic:
        num_views = cached.num_views

        def __len__(self) -> int:
            return len(cached)

        def fetch(self, indices: torch.Tensor, views: torch.Tensor) -> MomentBatch:
            batch = cached.fetch(indices, views)
            return replace(batch, moments=Moments(mean=batch.moments.mean, std=None))

    class Mean:
        fingerprint, encode = encoder.fingerprint, encoder.encode

        def sample(self, moments: Moments, noise: torch.Tensor | None) -> torch.Tensor:
            assert noise is None
            return moments.mean

    monkeypatch.setattr(loader_module, "normal", lambda *_: pytest.fail("noise was drawn"))
    batches = take(2, Deterministic(), Mean(), batch_size=4, seed=9)
    for step, (batch, other) in enumerate(zip(batches, expected, strict=True)):
        assert same(replace(batch, latents=other.latents), other)
        means = cached.fetch(*Samples(7, 3, 9).keys(4 * step, 4)).moments.mean
        assert torch.equal(batch.latents, means)


@pytest.mark.parametrize("start", [4, 8, 28, 40])
def test_batches_from_any_place_equal_those_of_a_run_from_the_start(
    cached, encoder, start: int
) -> None:
    whole = take(13, cached, encoder, batch_size=4, seed=2)
    resumed = take(3, cached, encoder, batch_size=4, seed=2, start_image=start)
    assert all(map(same, whole[start // 4 : start // 4 + 3], resumed))


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_change_nothing(cached, encoder, workers: int) -> None:
    plain = take(5, cached, encoder, batch_size=4, seed=2, start_image=4)
    ahead = take(5, cached, encoder, batch_size=4, seed=2, start_image=4, workers=workers)
    assert all(map(same, plain, ahead))


def test_on_the_fly_gives_the_cached_batches(cached, noise_source, encoder) -> None:
    fresh = take(4, EncodedViews(noise_source, encoder), encoder, batch_size=4, seed=2)
    stored = take(4, cached, encoder, batch_size=4, seed=2)
    for a, b in zip(fresh, stored, strict=True):
        assert torch.allclose(a.latents, b.latents, atol=1e-6)  # fp32 rounding
        assert torch.equal(a.index, b.index)
        assert torch.equal(a.conditions.control["flip"], b.conditions.control["flip"])


@pytest.mark.parametrize("buckets", [False, True])
def test_workers_make_images_and_this_process_encodes_them(
    noise_source, make_source, make_encoder, tmp_path: Path, buckets: bool, monkeypatch
) -> None:
    """The encoder may be on a GPU, which a forked process cannot use."""

    def noting(name, method):
        def noted(self, *asked):
            with (tmp_path / name).open("a") as file:
                file.write(f"{os.getpid()}\n")
            return method(self, *asked)

        return noted

    encoder = make_encoder()
    source = EncodedViews(noise_source, encoder, encode_batch=3)
    if buckets:
        everything = torch.arange(7)
        source = BucketedMoments([Bucket(size=Size(8, 8), images=everything, moments=source)])
    plain = take(5, source, encoder, batch_size=4, seed=2, start_image=4)
    for kind, name in ((make_source, "image"), (make_encoder, "encode")):
        monkeypatch.setattr(kind, name, noting(name, getattr(kind, name)))
    ahead = take(5, source, encoder, batch_size=4, seed=2, start_image=4, workers=2)
    assert all(map(same, plain, ahead))
    assert set((tmp_path / "encode").read_text().split()) == {str(os.getpid())}
    makers = set((tmp_path / "image").read_text().split())
    assert makers and str(os.getpid()) not in makers


def test_processes_share_the_global_batch(cached, encoder) -> None:
    whole = take(3, cached, encoder, batch_size=4, seed=2)
    parts = [
        take(3, cached, encoder, batch_size=4, seed=2, rank=rank, world_size=2) for rank in (0, 1)
    ]
    for batch, first, second in zip(whole, *parts, strict=True):
        assert torch.equal(batch.latents, torch.cat([first.latents, second.latents]))
        assert torch.equal(batch.index, torch.cat([first.index, second.index]))


def test_the_seed_changes_order_and_noise(cached, encoder) -> None:
    first, second = (take(1, cached, encoder, batch_size=7, seed=seed)[0] for seed in (0, 1))
    assert first.index.tolist() != second.index.tolist()
    order = first.index.argsort(), second.index.argsort()
    assert not torch.equal(first.latents[order[0]], second.latents[order[1]])


def test_a_second_epoch_draws_other_latents(cached, encoder) -> None:
    batches = take(4, cached, encoder, batch_size=7, seed=0)  # epochs 0 and 3 show view 0
    first, again = (batches[e].latents[batches[e].index.argsort()] for e in (0, 3))
    assert not torch.equal(first, again)


def test_a_batch_larger_than_an_epoch(cached, encoder) -> None:
    batch = take(1, cached, encoder, batch_size=20, seed=0)[0]
    assert sorted(batch.index[:7].tolist()) == sorted(batch.index[7:14].tolist()) == list(range(7))


@pytest.mark.parametrize("workers", [0, 1])
def test_the_global_generator_is_left_alone(cached, encoder, workers: int) -> None:
    before = torch.get_rng_state()
    take(2, cached, encoder, batch_size=4, seed=0, workers=workers)
    assert torch.equal(torch.get_rng_state(), before)


def test_the_loader_can_be_iterated_again(cached, encoder) -> None:
    loader = LatentLoader(cached, encoder, batch_size=4, seed=0)
    assert same(next(iter(loader)), next(iter(loader)))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"start_image": 6}, "multiple of batch_size, 4; got 6"),
        ({"world_size": 3}, "multiple of the world size, 3; got 4"),
    ],
)
def test_numbers_that_do_not_divide_are_refused(cached, encoder, settings, message) -> None:
    with pytest.raises(ValueError, match=message):
        LatentLoader(cached, encoder, batch_size=4, seed=0, **settings)


def test_an_empty_source_is_refused(make_source, encoder) -> None:
    with pytest.raises(ValueError, match="no images"):
        LatentLoader(
            EncodedViews(make_source(num_pictures=0), encoder), encoder, batch_size=4, seed=0
        )


def test_a_signal_to_all_processes_does_not_end_the_loaders_before_the_training(
    cached, encoder
) -> None:
    """Signals of a cluster or of torchrun; the workers end with the training."""
    alone = take(8, cached, encoder, batch_size=4, seed=9)
    before = set(multiprocessing.active_children())
    loader = iter(LatentLoader(cached, encoder, batch_size=4, seed=9, workers=2))
    result = [next(loader), next(loader)]  # one of each, so both have come to where they wait
    workers = set(multiprocessing.active_children()) - before
    assert len(workers) == 2
    for name in ("TERM", "USR2", "INT"):  # not by this process, which would be the parent's own
        subprocess.run(["kill", f"-{name}", *(str(worker.pid) for worker in workers)], check=True)
    result += itertools.islice(loader, 6)
    assert all(map(same, result, alone))
    loader.close()
    for worker in workers:
        worker.join()
        assert worker.exitcode == 0


def test_the_parent_ends_a_loader() -> None:
    own, other = multiprocessing.Pipe()
    child = multiprocessing.get_context("fork").Process(target=answer_as_a_loader, args=(other,))
    child.start()
    assert own.recv() == "begun"
    subprocess.run(["kill", "-TERM", str(child.pid)], check=True)
    own.send("still there?")
    assert own.recv() == "still there?"
    child.terminate()
    child.join()
    assert child.exitcode == 0


def answer_as_a_loader(pipe) -> None:
    ignore_signals_in_worker()
    pipe.send("begun")
    pipe.send(pipe.recv())
    time.sleep(3600)
