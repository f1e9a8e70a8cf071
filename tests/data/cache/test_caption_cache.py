# SPDX-License-Identifier: Apache-2.0
"""Caption bank: identical bytes for any number of processes, and each caption encoded once."""

import json
import multiprocessing
import os
import signal
from dataclasses import replace

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from pippin.data.cache import caption_cache as module
from pippin.data.cache.caption_cache import build_bank
from pippin.data.cache.manifest import write_shard
from pippin.types import TextFeatures, TruncatedCaption

CAPTIONS = [f"image {number}" for number in range(13)]


class Lengths:
    """Features with the length and the last character of a caption."""

    def __init__(self):
        self.seen = []

    def encode(self, captions, num_tokens):
        self.seen += captions
        rows = torch.tensor([[len(caption), ord(caption[-1])] for caption in captions]).float()
        return TextFeatures(
            tokens=rows[:, None].expand(-1, num_tokens, -1),
            mask=torch.ones(len(captions), num_tokens, dtype=torch.bool),
            pooled=rows,
        )

    def truncated(self, captions, num_tokens):
        return [
            TruncatedCaption(
                caption=caption, encoder="lengths", tokens=10, read=num_tokens, unread=caption[-2:]
            )
            for caption in captions
            if len(caption) > 7
        ]


def bank(folder, encoder, **others):
    given = {"fingerprint": "f", "num_tokens": 3, "dtype": torch.float16} | others
    return build_bank(CAPTIONS, lambda: encoder, folder=folder, **given)


def files(folder):
    return {p.name: p.read_bytes() for p in folder.glob("text-*/*") if p.name != "lock"}


@pytest.fixture(autouse=True)
def small_shards(monkeypatch):
    """Four shards of two batches; the last batch has one caption."""
    monkeypatch.setattr(module, "SHARD", 4)
    monkeypatch.setattr(module, "BATCH", 2)


def test_what_is_there_is_not_encoded_again(tmp_path):
    encoder, calls, missing = Lengths(), [], []
    built = bank(tmp_path, encoder, progress=lambda *n: calls.append(n), ready=missing.append)
    assert encoder.seen == sorted(CAPTIONS)
    assert calls[0] == (2, 13) and calls[-1] == (13, 13)
    assert built.fetch(built.rows(["image 12"])).pooled.tolist() == [[8, ord("2")]]
    whole = files(tmp_path)
    (folder,) = tmp_path.iterdir()
    path = folder / "shard-00001.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    (folder / ".shard-00001.safetensors.99999999.writing").write_bytes(b"half")
    encoder.seen.clear()
    bank(tmp_path, encoder, verify="size", ready=missing.append)
    assert encoder.seen == []
    bank(tmp_path, encoder, ready=missing.append)
    assert encoder.seen == sorted(CAPTIONS)[4:8]
    assert files(tmp_path) == whole
    assert missing == [4, 0, 1]


def spoil(path):
    path.write_bytes(path.read_bytes()[:-1] + b"?")


def test_a_helper_that_comes_first_does_not_take_a_damaged_shard_for_whole(tmp_path):
    bank(tmp_path, Lengths())
    whole, encoder = files(tmp_path), Lengths()
    (folder,) = tmp_path.iterdir()
    spoil(folder / "shard-00001.safetensors")
    (folder / "shard-00002.safetensors").unlink()
    bank(tmp_path, encoder, verify="size")
    assert encoder.seen == sorted(CAPTIONS)[4:12]
    assert files(tmp_path) == whole


def test_a_helper_does_not_open_a_damaged_shard_that_the_first_one_mends(tmp_path):
    bank(tmp_path, Lengths())
    (folder,) = tmp_path.iterdir()
    spoil(folder / "shard-00001.safetensors")
    fine = []

    def ready(missing):  # from here on helpers look at the bank
        helper = module._Builder(folder, sorted(CAPTIONS), ingredients, None)
        fine.extend(helper.is_complete(number, "size") for number in range(4))

    with safe_open(folder / "shard-00000.safetensors", framework="pt") as file:
        header = json.loads(file.metadata()["pippin"])
    ingredients = {
        k: v for k, v in header.items() if k not in ("start", "count", "content", "format")
    }
    bank(tmp_path, Lengths(), ready=ready)
    assert fine == [True, False, True, True]


def test_a_bank_knows_which_captions_were_cut(tmp_path):
    built = bank(tmp_path, Lengths())
    cut = built.is_truncated()[built.rows(CAPTIONS)]
    assert cut.tolist() == [number > 9 for number in range(13)]  # ten signs and more
    assert bank(tmp_path, None).is_truncated().tolist() == built.is_truncated().tolist()


@pytest.mark.parametrize(("own", "known"), [(3, False), (2, True)])
def test_an_older_bank_says_what_it_does_not_know(tmp_path, own, known):
    """If captions fill all positions, truncation is unknown."""

    class Older(Lengths):
        def encode(self, captions, num_tokens):
            result = super().encode(captions, num_tokens)
            result.mask[:, own:] = False
            return result

    built = bank(tmp_path, Older())
    for path in built.folder.glob("shard-*"):
        with safe_open(path, framework="pt") as file:
            header = json.loads(file.metadata()["pippin"])
        tensors = load_file(path)
        del tensors["cut"], header["content"]
        write_shard(path, tensors, header)
    again = bank(tmp_path, None)
    assert torch.equal(again.fetch(torch.arange(13)).mask, built.fetch(torch.arange(13)).mask)
    assert (again.is_truncated().tolist() if known else again.is_truncated()) == (
        [False] * 13 if known else None
    )


@pytest.mark.parametrize("killed", [False, True])
def test_two_processes_share_the_work(tmp_path, killed):
    bank(tmp_path / "one", Lengths())
    context = multiprocessing.get_context("fork")
    both, queue = context.Barrier(2), context.SimpleQueue()

    class Shared(Lengths):
        def encode(self, captions, num_tokens):
            if not self.seen:
                both.wait(30)
            elif killed and multiprocessing.current_process().name == "1":
                os.kill(os.getpid(), signal.SIGKILL)
            queue.put(captions)
            return super().encode(captions, num_tokens)

    processes = [
        context.Process(target=bank, args=(tmp_path / "two", Shared()), name=str(n))
        for n in range(2)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, -signal.SIGKILL if killed else 0]
    assert files(tmp_path / "two") == files(tmp_path / "one")
    seen = []
    while not queue.empty():
        seen += queue.get()
    assert sorted(set(seen)) == sorted(CAPTIONS)
    assert len(seen) == len(CAPTIONS) + (2 if killed else 0)


@pytest.mark.parametrize(
    ("factor", "dtype", "message"),
    [
        (1e4, torch.float16, r"reach 490000, and text\.dtype float16 stores numbers up to 65504"),
        (float("inf"), torch.float32, "must be finite; the encoder returned NaN or infinite"),
    ],
)
def test_features_that_cannot_be_stored_are_refused(tmp_path, factor, dtype, message):
    class Large(Lengths):
        def encode(self, captions, num_tokens):
            features = super().encode(captions, num_tokens)
            return replace(features, pooled=features.pooled * factor)

    with pytest.raises(ValueError, match=f"features of captions {message}"):
        bank(tmp_path, Large(), dtype=dtype)
    assert not list(tmp_path.rglob("*.safetensors"))


def test_large_features_are_stored_in_a_type_of_their_range(tmp_path):
    class Large(Lengths):
        def encode(self, captions, num_tokens):
            features = super().encode(captions, num_tokens)
            return replace(features, pooled=features.pooled * 1e4)

    rows = torch.arange(2)
    pooled = bank(tmp_path, Large(), dtype=torch.bfloat16).fetch(rows).pooled
    assert pooled.isfinite().all() and pooled.max() > 1e5
