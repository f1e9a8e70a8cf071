# SPDX-License-Identifier: Apache-2.0
import dataclasses
import errno
import multiprocessing
import os
import signal
import stat
import time
from pathlib import Path

import pytest
import torch

from pippin.data.cache.build import build_cache
from pippin.data.cache.latent_cache import LatentCache
from pippin.data.cache.manifest import cache_ingredients, cache_key, read_shard
from pippin.data.config import CacheConfig
from pippin.data.views.views import make_view


@pytest.fixture
def config(tmp_path: Path) -> CacheConfig:
    return CacheConfig(folder=str(tmp_path / "caches"), shard_size=5)


def files(cache: LatentCache) -> dict[str, bytes]:
    """Every file of a cache except its lock."""
    return {p.name: p.read_bytes() for p in cache.folder.iterdir() if p.name != "lock"}


@pytest.fixture(scope="module")
def uninterrupted(make_source, make_encoder, tmp_path_factory) -> dict[str, bytes]:
    config = CacheConfig(folder=str(tmp_path_factory.mktemp("whole")), shard_size=5)
    return files(build_cache(make_source(), make_encoder(), config, encode_batch=2))


def test_rows_hold_what_they_say(noise_source, encoder, config) -> None:
    cache = build_cache(noise_source, encoder, config)
    rows = [read_shard(cache.folder / shard.name) for shard in cache.manifest.shards]
    index = torch.cat([row["index"] for row in rows]).tolist()
    view = torch.cat([row["view"] for row in rows]).tolist()
    assert list(zip(view, index, strict=True)) == [(v, i) for v in range(3) for i in range(7)]
    flips = torch.cat([row["control.flip"] for row in rows]).flatten().tolist()
    expected = [make_view(noise_source, i, v).control.flip for v in range(3) for i in range(7)]
    assert flips == expected


@pytest.mark.parametrize("fail_at", [1, 3, 4, 9])
def test_killed_and_resumed_equals_uninterrupted(
    noise_source, make_encoder, config, uninterrupted, fail_at: int
) -> None:
    with pytest.raises(KeyboardInterrupt):
        build_cache(noise_source, make_encoder(fail_at=fail_at), config, encode_batch=2)
    encoder = make_encoder()
    cache = build_cache(noise_source, encoder, config, encode_batch=2)
    assert files(cache) == uninterrupted
    whole_shards = (fail_at - 1) // 3  # five rows are three batches
    assert encoder.calls == 13 - 3 * whole_shards


def test_what_a_killed_process_leaves_is_cleared(
    noise_source, make_encoder, config, uninterrupted
) -> None:
    with pytest.raises(KeyboardInterrupt):
        build_cache(noise_source, make_encoder(fail_at=7), config, encode_batch=2)
    (folder,) = Path(config.folder).iterdir()
    (folder / ".shard-00002.safetensors.123.writing").write_bytes(b"half")
    (folder / "shard-00001.safetensors").write_bytes(b"half")
    assert (
        files(build_cache(noise_source, make_encoder(), config, encode_batch=2)) == uninterrupted
    )


def test_a_damaged_cache_is_mended(noise_source, encoder, config, uninterrupted) -> None:
    cache = build_cache(noise_source, encoder, config, encode_batch=2)
    (cache.folder / "shard-00003.safetensors").write_bytes(b"damaged")
    encoder.calls = 0
    messages = []
    mended = build_cache(noise_source, encoder, config, encode_batch=2, say=messages.append)
    assert files(mended) == uninterrupted
    assert encoder.calls == 3
    assert len(messages) == 2
    assert "shard-00003.safetensors has 7 bytes instead of" in messages[0]
    assert "shard-00003.safetensors is not readable" in messages[1] and "rebuilt" in messages[1]


def test_a_new_cache_is_made_and_a_stopped_one_continued_by_name(
    noise_source, make_encoder, config
) -> None:
    messages = []
    with pytest.raises(KeyboardInterrupt):
        build_cache(
            noise_source, make_encoder(fail_at=7), config, encode_batch=2, say=messages.append
        )
    assert messages == []
    build_cache(noise_source, make_encoder(), config, encode_batch=2, say=messages.append)
    assert len(messages) == 1 and "unfinished" in messages[0]


def test_a_stale_cache_is_named_before_it_is_made_again(noise_source, encoder, config) -> None:
    cache = build_cache(noise_source, encoder, config, encode_batch=2)
    noise_source.config = dataclasses.replace(noise_source.config, seed=6)
    key = cache_key(cache_ingredients(noise_source, encoder, config))
    cache.folder.rename(cache.folder.parent / key)
    messages = []
    build_cache(noise_source, encoder, config, encode_batch=2, say=messages.append)
    assert "other settings: data.seed is 5 there, 6 here" in messages[0]
    assert len(messages) == 1 + 5
    assert all("is of other settings: it is rebuilt" in text for text in messages[1:])


def test_a_finished_cache_is_not_built_again(noise_source, encoder, config) -> None:
    build_cache(noise_source, encoder, config)
    encoder.calls = 0
    calls = []
    build_cache(noise_source, encoder, config, progress=lambda *numbers: calls.append(numbers))
    assert encoder.calls == 0
    assert calls == []


def test_another_shard_size_is_read_as_it_was_built(noise_source, encoder, config) -> None:
    build_cache(noise_source, encoder, config)
    other = dataclasses.replace(config, shard_size=4)
    assert build_cache(noise_source, encoder, other).manifest.shard_size == 5


def test_a_stopped_build_may_go_on_with_another_shard_size(
    noise_source, make_encoder, config, uninterrupted
) -> None:
    small = dataclasses.replace(config, shard_size=2)
    with pytest.raises(KeyboardInterrupt):
        build_cache(noise_source, make_encoder(fail_at=10), small, encode_batch=2)
    assert (
        files(build_cache(noise_source, make_encoder(), config, encode_batch=2)) == uninterrupted
    )


def test_workers_change_nothing(noise_source, encoder, config, uninterrupted) -> None:
    assert (
        files(build_cache(noise_source, encoder, config, encode_batch=2, workers=2))
        == uninterrupted
    )


def test_progress_counts_rows(noise_source, make_encoder, config) -> None:
    with pytest.raises(KeyboardInterrupt):
        build_cache(noise_source, make_encoder(fail_at=2), config, encode_batch=5)
    calls = []
    build_cache(
        noise_source,
        make_encoder(),
        config,
        encode_batch=5,
        progress=lambda *numbers: calls.append(numbers),
    )
    assert calls == [(5, 21), (10, 21), (15, 21), (20, 21), (21, 21)]


def test_a_full_disk_leaves_no_half_written_file(
    noise_source, encoder, config, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = os.fsync, []

    def full(handle: int) -> None:
        if stat.S_ISREG(os.fstat(handle).st_mode):
            calls.append(handle)
        if len(calls) == 2:  # the second shard
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(handle)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        build_cache(noise_source, encoder, config)
    (folder,) = Path(config.folder).iterdir()
    assert sorted(path.name for path in folder.iterdir()) == ["lock", "shard-00000.safetensors"]


def test_moments_that_are_not_finite_stop_the_build(noise_source, make_encoder, config) -> None:
    class Broken(make_encoder):
        def encode(self, pixels):
            return super().encode(pixels * torch.nan)

    with pytest.raises(ValueError, match="not finite"):
        build_cache(noise_source, Broken(), config)


@pytest.mark.parametrize("name", ["mean", "std"])
def test_moments_beyond_the_type_on_disk_stop_the_build(
    noise_source, make_encoder, config, name
) -> None:
    class Large(make_encoder):
        def encode(self, pixels):
            moments = super().encode(pixels)
            return dataclasses.replace(moments, **{name: getattr(moments, name) + 1e5})

    small = dataclasses.replace(config, dtype="float16")
    with pytest.raises(ValueError, match=r"reach 1000\d\d.*cache\.dtype float16.* up to 65504"):
        build_cache(noise_source, Large(), small)
    large = build_cache(noise_source, Large(), dataclasses.replace(config, dtype="bfloat16"))
    moments = large.fetch(torch.arange(7), torch.zeros(7, dtype=torch.long)).moments
    assert getattr(moments, name).isfinite().all()


@pytest.mark.parametrize(
    ("workers", "killed", "calls"),
    [((0, 0), False, 13), ((0, 1), True, 15)],
    ids=["both live", "one is killed"],
)
def test_two_builders_share_the_work(
    noise_source, make_encoder, config, uninterrupted, workers, killed, calls
) -> None:
    """Each encodes a batch while the other has a shard in work; a killed one (its worker lives on
    a while) has encoded two batches of its shard, which the other then makes."""
    context = multiprocessing.get_context("fork")
    counted, both = context.Value("i", 0), context.Barrier(2)

    class Counting(make_encoder):
        def encode(self, pixels):
            with counted.get_lock():
                counted.value += 1
            if self.calls == 0:
                both.wait(600)
            if killed and self.calls == 1 and multiprocessing.current_process().name == "1":
                os.kill(os.getpid(), signal.SIGKILL)
            return super().encode(pixels)

    def build(place: int) -> None:
        torch.set_num_threads(1)
        build_cache(noise_source, Counting(), config, encode_batch=2, workers=workers[place])

    processes = [context.Process(target=build, args=(n,), name=str(n)) for n in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, -signal.SIGKILL if killed else 0]
    assert files(LatentCache.open(noise_source, make_encoder(), config)) == uninterrupted
    assert counted.value == calls


def test_a_builder_that_comes_later_takes_the_shard_size_of_the_first(
    noise_source, make_encoder, config, uninterrupted
) -> None:
    """The first builder is killed while the second waits for its shard."""
    context = multiprocessing.get_context("fork")
    begun = context.Event()

    class Endless(make_encoder):
        def encode(self, pixels):
            if self.calls == 6:  # two shards are done
                begun.set()
                time.sleep(3600)
            return super().encode(pixels)

    def build() -> None:
        torch.set_num_threads(1)
        build_cache(noise_source, Endless(), config, encode_batch=2)

    first = context.Process(target=build)
    first.start()
    assert begun.wait(600)
    messages, calls = [], []

    def end(missing: int) -> None:
        calls.append(missing)
        first.kill()

    encoder, other = make_encoder(), dataclasses.replace(config, shard_size=4)
    cache = build_cache(
        noise_source, encoder, other, encode_batch=2, say=messages.append, ready=end
    )
    first.join()
    assert files(cache) == uninterrupted
    assert calls == [3] and encoder.calls == 13 - 6
    assert len(messages) == 1 and "is being built: this process joins the build" in messages[0]


def test_it_is_said_when_others_may_come(noise_source, encoder, config) -> None:
    calls = []
    for _ in range(2):
        build_cache(noise_source, encoder, config, ready=calls.append)
    assert calls == [5, 0]
