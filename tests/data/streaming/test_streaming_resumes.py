# SPDX-License-Identifier: Apache-2.0
"""Builds from shards that are killed, shared, damaged or in use are resumed to the same bytes."""

from dataclasses import replace

import pytest
from processes import run_ranks
from streamed_shards import cache_of, contents, data_of, streamed

from pippin.config import ConfigError
from pippin.data.cache.manifest import CacheError
from pippin.data.importing.config import ShardsConfig
from pippin.data.importing.parts import PARTS
from pippin.data.sources.images import ImageFolderSource
from pippin.data.streaming.build import build_streamed
from pippin.data.streaming.shard_source import open_source
from pippin.runs.data.streamed import streamed_moments

pytest.importorskip("datasets")


@pytest.mark.parametrize("fail_at", [1, 4, 6])
def test_a_killed_build_repeats_one_shard_at_most(shards, tmp_path, make_encoder, fail_at):
    cache = cache_of(tmp_path / "caches")
    _, whole = streamed(shards, tmp_path / "own", make_encoder(), cache)
    expected, files = contents(whole), contents(tmp_path / "own")
    again = cache_of(tmp_path / "again")
    with pytest.raises(KeyboardInterrupt):
        streamed(shards, tmp_path / "two", make_encoder(fail_at=fail_at), again)
    with pytest.raises(ValueError, match="is being encoded from shards"):
        ImageFolderSource(data_of(tmp_path / "two"), "train")
    done = len(list((tmp_path / "again").glob("*/shard-0000?.json")))
    encoder = make_encoder()
    _, built = streamed(shards, tmp_path / "two", encoder, again)
    assert encoder.calls <= (3 - done) * 3 and done == (fail_at - 1) // 3
    assert contents(built) == expected and contents(tmp_path / "two") == files


def test_two_processes_encode_each_shard_once_to_the_same_bytes(shards, tmp_path, make_encoder):
    cache = cache_of(tmp_path / "caches")
    _, alone = streamed(shards, tmp_path / "own", make_encoder(), cache)

    def work(world, folder):
        encoder = make_encoder()
        streamed(shards, tmp_path / "two", encoder, cache_of(tmp_path / "again"))
        return encoder.calls

    assert sum(run_ranks(2, work, tmp_path / "meeting")) == 9
    assert contents(tmp_path / "again" / alone.name) == contents(alone)
    assert contents(tmp_path / "two") == contents(tmp_path / "own")


def test_damaged_files_are_encoded_again(shards, tmp_path, make_encoder):
    cache = cache_of(tmp_path / "caches")
    own, built = streamed(shards, tmp_path / "own", make_encoder(), cache)
    expected = contents(built)
    path = built / "shard-00001-000.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    with pytest.raises(CacheError, match=r"shard-00001-000\.safetensors has a wrong checksum"):
        streamed_moments(own, make_encoder(), cache, "sha256")
    encoder = make_encoder()
    streamed(shards, tmp_path / "own", encoder, cache)
    assert contents(built) == expected and encoder.calls == 3


def test_threads_change_no_byte(shards, tmp_path, encoder):
    config, built = ShardsConfig(source=str(shards)), []
    for threads in (0, 3):
        data, cache = data_of(tmp_path / f"own{threads}"), cache_of(tmp_path / f"c{threads}")
        built.append(build_streamed(config, data, cache, encoder, threads=threads))
    assert contents(built[0]) == contents(built[1])


def test_a_source_in_use_keeps_its_record_and_temporary_files(shards, tmp_path):
    config, folder = ShardsConfig(source=str(shards)), tmp_path / "own"
    written = folder / PARTS / ".00000.json.4194305.writing"  # of another machine: no such process

    def work(world, _):
        if world.is_rank0:
            with open_source(config, folder):
                written.touch()
                world.barrier()
                world.barrier()
            return written.exists()
        world.barrier()
        with open_source(config, folder) as source:
            same = source.columns.texts
        with (
            pytest.raises(ConfigError, match=r"was prepared from .* with other settings"),
            open_source(replace(config, caption="none"), folder),
        ):
            pass
        world.barrier()
        return bool(same)

    assert run_ranks(2, work, tmp_path / "meeting") == [True, True]
    with open_source(replace(config, caption="none"), folder) as source:  # nothing was finished
        assert not source.columns.texts and not written.exists()
