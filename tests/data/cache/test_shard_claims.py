# SPDX-License-Identifier: Apache-2.0
import multiprocessing
import os
import time

import pytest

from pippin.data.cache import shard_claims as claims_module
from pippin.data.cache.shard_claims import LOCK, ShardClaims

CONTEXT = multiprocessing.get_context("fork")


def elsewhere(work):
    """Result of ``work()`` in a separate process."""
    output, reference = CONTEXT.Pipe()
    process = CONTEXT.Process(target=lambda: reference.send(work()))
    process.start()
    assert output.poll(600)
    result = output.recv()
    process.join()
    return result


def begin(claims, whole):
    with claims.exclusive():
        assert claims.is_only_builder()
        claims.start_build(10, whole)


def test_shards_are_given_once_and_those_of_others_are_not_given(tmp_path):
    def other():
        with ShardClaims(tmp_path) as joined:
            with joined.exclusive():
                alone = joined.is_only_builder()
                joined.join_build()
            return alone, joined.shard_size, list(joined.claim_missing()), joined.rows_done(35)

    with ShardClaims(tmp_path) as claims:
        begin(claims, [False, True, False, False])
        free = claims.claim_missing()
        assert next(free) == 0
        assert elsewhere(other) == (False, 10, [2, 3], 10)
        claims.mark_done(0)
        assert claims.missing() == [2, 3] and claims.rows_done(35) == 20
        assert list(free) == [2, 3]  # the other has ended, and made neither
        assert list(claims.claim_missing()) == []
        claims.mark_done(2)
        claims.mark_done(3)
        assert claims.rows_done(35) == 35
    assert elsewhere(lambda: os.path.exists(tmp_path / LOCK))


def test_inside_the_gate_the_folder_is_read_anew(tmp_path, monkeypatch):
    """Otherwise the client of a shared disk may cache the absence of a shard or manifest."""
    seen = []
    monkeypatch.setattr(claims_module, "list_names", lambda folder: seen.append(folder))
    with ShardClaims(tmp_path) as claims:
        assert seen == []
        with claims.exclusive():
            assert seen == [tmp_path]


def test_one_waits_for_the_maker_of_a_shard_and_no_longer_than_it_lives(tmp_path):
    holds = CONTEXT.Event()

    def hold():
        with ShardClaims(tmp_path) as joined:
            with joined.exclusive():
                joined.join_build()
            assert next(joined.claim_missing()) == 0
            holds.set()
            CONTEXT.Event().wait()

    with ShardClaims(tmp_path) as claims:
        begin(claims, [False, False])
        other = CONTEXT.Process(target=hold)
        other.start()
        assert holds.wait(600)
        assert list(claims.claim_missing()) == [1]
        claims.mark_done(1)
        other.kill()
        claims.wait_for_shard()
        assert list(claims.claim_missing()) == [0]
        other.join()


def test_counting_the_rows_that_are_done_is_cheap(tmp_path):
    """It runs after every batch, so it must take less than 1/20 of a listing of missing shards."""
    whole = [number % 3 == 0 for number in range(300_001)]

    def seconds(work):
        started = time.thread_time()  # of the processor, however busy the machine is
        work()
        return time.thread_time() - started

    with ShardClaims(tmp_path) as claims:
        begin(claims, whole)
        assert claims.rows_done(3_000_004) == 10 * 100_000 + 4
        counting = min(seconds(lambda: claims.rows_done(3_000_004)) for _ in range(5))
        assert counting < min(seconds(claims.missing) for _ in range(5)) / 20


def test_a_waiting_process_must_hold_nothing(tmp_path):
    with ShardClaims(tmp_path) as claims:
        begin(claims, [False])
        assert list(claims.claim_missing()) == [0]
        with pytest.raises(AssertionError):
            claims.wait_for_shard()


@pytest.mark.parametrize("kind", ["link", "hard link"])
def test_a_file_of_somebody_else_is_not_written_over(tmp_path, kind):
    mine, folder = tmp_path / "mine", tmp_path / "cache"
    mine.write_text("precious")
    folder.mkdir()
    if kind == "link":
        (folder / LOCK).symlink_to(mine)
    else:
        (folder / LOCK).hardlink_to(mine)
    with pytest.raises(ValueError, match=rf"cache/{LOCK} is "):
        ShardClaims(folder)
    assert mine.read_text() == "precious"


@pytest.mark.parametrize("content", [b"", bytes(40), b"              10..x"])
def test_what_a_build_or_a_power_cut_left_is_taken(tmp_path, content):
    (tmp_path / LOCK).write_bytes(content)
    with ShardClaims(tmp_path) as claims:
        begin(claims, [False, True])
        assert claims.missing() == [0]
