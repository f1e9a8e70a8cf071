# SPDX-License-Identifier: Apache-2.0
"""Shards encoded without unpacking: equal to import and cache, resumable, bounded, accountable."""

import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from archives import archive, archive_of
from PIL import Image
from processes import run_ranks

from pippin.conditioning.config import TextSemantic
from pippin.config import ConfigError
from pippin.data.cache.build import build_cache
from pippin.data.cache.manifest import CacheError
from pippin.data.config import AugmentationConfig, CacheConfig, ImagesConfig
from pippin.data.folder.table_scan import SKIPPED
from pippin.data.importing.config import ImportConfig, ShardsConfig
from pippin.data.importing.importer import import_images
from pippin.data.importing.parts import PARTS
from pippin.data.loader import LatentLoader
from pippin.data.moments import bucketed_moments
from pippin.data.sources.images import ImageFolderSource
from pippin.data.streaming.build import build_streamed
from pippin.data.streaming.shard_source import open_source
from pippin.encoders.config import TextConfig
from pippin.images.files import UnreadableImageError
from pippin.runs.data.streamed import streamed_moments
from pippin.runs.text_inputs import ImageCaptions
from pippin.types import TextFeatures

pytest.importorskip("datasets")


def noise_bytes(number, height=20, width=24, kind="PNG"):
    """Bytes of a noise image."""
    draws = np.random.default_rng(number)
    content = io.BytesIO()
    pixels = draws.integers(0, 256, (height, width, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(content, kind)
    return content.getvalue()


def samples(first, count):
    return [
        {
            "jpg": noise_bytes(n, 18 + n % 5, 30 - n % 7, "JPEG" if n % 2 else "PNG"),
            "txt": f"image {n}".encode(),
            "cls": str(n % 3).encode(),
        }
        for n in range(first, first + count)
    ]


@pytest.fixture
def shards(tmp_path):
    """Three archives of six images; the last has the bytes of the first image too."""
    folder = tmp_path / "shards"
    folder.mkdir()
    for number in range(3):
        rows = samples(6 * number, 6)
        if number == 2:
            rows[1] = samples(0, 1)[0]
        (folder / f"{number:02d}.tar").write_bytes(archive(rows))
    return folder


def data_of(path, **changes):
    look = AugmentationConfig(colour_jitter=0.4, jpeg_share=0.5)
    settings = {"resolution": 16, "views": 2, "held_out_share": 0.3, "seed": 3, "look": look}
    index = str(path) + "-index"
    return ImagesConfig(path=str(path), index_folder=index, **(settings | changes))


def cache_of(folder, **changes):
    return CacheConfig(folder=str(folder), **({"shard_size": 4} | changes))


def contents(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != "lock"
    }


def imported(shards, folder, encoder, cache, **changes):
    """Source and cache of the images that an import unpacks."""
    import_images(ImportConfig(source=str(shards)), folder)
    source = ImageFolderSource(data_of(folder, **changes), "train")
    return source, build_cache(source, encoder, cache)


def streamed(shards, folder, encoder, cache, *, keep=50, **changes):
    """Source of the images that were encoded from shards, and the cache's folder."""
    data = data_of(folder, **changes)
    built = build_streamed(ShardsConfig(source=str(shards), keep=keep), data, cache, encoder)
    return ImageFolderSource(data, "train"), built


def test_streamed_shards_train_as_imported_ones(shards, tmp_path, encoder):
    cache = cache_of(tmp_path / "caches")
    source, moments = imported(shards, tmp_path / "files", encoder, cache)
    own, _ = streamed(shards, tmp_path / "own", encoder, cache, keep=5)
    latents = streamed_moments(own, encoder, cache, "sha256")
    names = [source.key(index) for index in range(len(source))]
    assert [own.key(index) for index in range(len(own))] == names and len(names) > 8
    assert own.source_hash() == source.source_hash()
    assert own.content_hash() == source.content_hash()
    assert own.class_names == source.class_names == ("0", "1", "2")
    assert [own.captions(i) for i in range(len(own))] == [
        source.captions(i) for i in range(len(own))
    ]
    batches = [
        iter(LatentLoader(made, encoder, batch_size=5, seed=1)) for made in (moments, latents)
    ]
    for _ in range(12):  # several epochs, so all views
        first, second = next(batches[0]), next(batches[1])
        assert torch.equal(first.index, second.index)
        assert torch.equal(first.conditions.label, second.conditions.label)
        assert first.conditions.control.keys() == second.conditions.control.keys()
        for name, value in first.conditions.control.items():
            assert torch.equal(value, second.conditions.control[name]), name
        torch.testing.assert_close(first.latents, second.latents, rtol=0, atol=1e-6)


def test_buckets_have_the_latents_of_an_import(shards, tmp_path, encoder):
    cache, ratios = cache_of(tmp_path / "caches"), {"aspect_ratios": (0.7, 1.0), "bucket_step": 4}
    import_images(ImportConfig(source=str(shards)), tmp_path / "files")
    source = ImageFolderSource(data_of(tmp_path / "files", **ratios), "train")
    own, _ = streamed(shards, tmp_path / "own", encoder, cache, **ratios)
    expected = bucketed_moments(source, lambda part: build_cache(part, encoder, cache))
    result = bucketed_moments(own, lambda part: streamed_moments(part, encoder, cache, "size"))
    assert [bucket.size for bucket in result.buckets] == [b.size for b in expected.buckets]
    assert len(result.buckets) == 2
    for one, other in zip(result.buckets, expected.buckets, strict=True):
        assert torch.equal(one.images, other.images)
        views = torch.ones(len(one.images), dtype=torch.long)
        first, second = (made.fetch(one.images, views) for made in (result, expected))
        torch.testing.assert_close(first.moments.mean, second.moments.mean, rtol=0, atol=1e-6)
        assert torch.equal(first.label, second.label)


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


def test_a_bounded_sample_of_files_is_kept(shards, tmp_path, encoder):
    cache, kept = cache_of(tmp_path / "caches"), {}
    for keep in (1, 4, 7, 50):
        own, _ = streamed(shards, tmp_path / f"own{keep}", encoder, cache, keep=keep)
        names = {path for path in contents(tmp_path / f"own{keep}") if path[0].isdigit()}
        kept[keep] = names
        with_files = own.with_files()
        held_out = own.with_split("held-out")
        assert {held_out.key(i) for i in range(len(held_out))} <= names
        assert {with_files.key(i) for i in range(len(with_files))} <= names
        for index in range(len(with_files)):
            assert with_files.image(index).shape[1:] == with_files.original_size(index)
    assert [len(names) for names in kept.values()] == [1, 4, 7, 18]
    assert kept[4] <= kept[7] <= kept[50]
    lacking = next(i for i in range(len(own)) if own.key(i) not in kept[4])
    small, _ = streamed(shards, tmp_path / "own4", encoder, cache, keep=4)
    assert not small.can_show(lacking, small.original_size(lacking))
    with pytest.raises(ValueError, match="was encoded from a shard and its file was not kept"):
        small.image(lacking)


def faulty(tmp_path):
    """Archive with one of each fault between good samples, cut in the middle of the last image."""
    good = [(f"{n:03d}.png", noise_bytes(n)) for n in range(3)]
    texts = [(f"{n:03d}.txt", f"image {n}".encode()) for n in range(3)]
    members = [
        good[0],
        texts[0],
        ("010.png", noise_bytes(10)[:200]),
        ("010.txt", b"broken"),
        ("011.jpg", b"<html>not found</html>"),
        ("011.txt", b"a page"),
        ("012.json", {"status": "failed"}),
        ("013.png", noise_bytes(13, 8, 60)),
        ("013.txt", b"small"),
        ("000.png", noise_bytes(14)),  # the key of the first
        ("000.txt", b"repeated"),
        ("015.png", noise_bytes(15)),  # no caption
        ("016.png", noise_bytes(16, 1, 70_000)),
        ("016.txt", b"wide"),
        good[1],
        texts[1],
        ("099.txt", b"cut"),
        ("099.png", noise_bytes(99, 90, 90)),
    ]
    whole = archive_of(members)
    (tmp_path / "faulty").mkdir()
    (tmp_path / "faulty/0.tar").write_bytes(whole[: whole.rindex(noise_bytes(99, 90, 90)) + 900])
    (tmp_path / "faulty/1.tar").write_bytes(archive_of([good[2], texts[2]]))
    return tmp_path / "faulty"


def test_every_fault_is_named_with_shard_key_and_reason(tmp_path, encoder):
    config = ShardsConfig(source=str(faulty(tmp_path)), require_caption=True)
    data = data_of(tmp_path / "own", max_lost_share=0.9)
    build_streamed(config, data, cache_of(tmp_path / "caches"), encoder)
    lines = [json.loads(line) for line in (tmp_path / "own" / SKIPPED).read_text().splitlines()]
    reasons = {line["key"]: line["reason"] for line in lines}
    assert reasons == {
        "010": "broken",
        "011": "not an image of a format that is read (PNG, JPEG, WEBP, GIF, BMP, TIFF)",
        "013": "too small",
        "015": "no caption",
        "016": "too large",
        "099": "truncated member",
        "": "damaged archive",
    }
    assert {line["shard"] for line in lines} == {str(tmp_path / "faulty/0.tar")}
    said = (tmp_path / "own" / PARTS / "summary.txt").read_text()
    assert "samples with the key of another, all used: 1" in said
    assert "without an image of their name: json (1)" in said and "truncated member (1)" in said
    own = ImageFolderSource(data, "train")
    images = {own.key(i) for i in range(len(own))}
    images |= {own.with_split("held-out").key(i) for i in range(len(own.with_split("held-out")))}
    assert len(images) == 4  # both of the key 000, 001 and 002
    assert {image.reason for image in own.skipped} == {"broken", "too small", "too large"}


def test_names_that_are_not_utf8_are_written_in_escapes(tmp_path, encoder):
    small = ("caf\udce9.png", noise_bytes(0, 8, 8))
    (tmp_path / "shards").mkdir()
    good = [(f"{n}.png", noise_bytes(n)) for n in range(1, 4)]
    (tmp_path / "shards/0.tar").write_bytes(archive_of([small, *good]))
    cache = cache_of(tmp_path / "caches")
    streamed(tmp_path / "shards", tmp_path / "own", encoder, cache, max_lost_share=0.5)
    (line,) = (tmp_path / "own" / SKIPPED).read_text().splitlines()
    assert json.loads(line)["key"] == "caf?" and json.loads(line)["reason"] == "too small"


def test_an_image_that_memory_does_not_suffice_for_is_not_skipped(
    shards, tmp_path, encoder, monkeypatch
):
    def failing(content, name):
        raise UnreadableImageError(Path(name), "system error", "there is not enough memory")

    cache = cache_of(tmp_path / "caches")
    with monkeypatch.context() as patch:
        patch.setattr("pippin.data.streaming.reading.decode_image", failing)
        with pytest.raises(MemoryError, match=r"image 00000/0000000\.png: there is not enough"):
            streamed(shards, tmp_path / "own", encoder, cache)
    streamed(shards, tmp_path / "own", encoder, cache)
    assert (tmp_path / "own" / SKIPPED).read_text() == ""


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


def test_a_file_that_is_no_archive_fails_alone(shards, tmp_path, encoder):
    page = shards / "01.tar"
    content = page.read_bytes()
    page.write_bytes(b"<!DOCTYPE html><html>log in</html>" + bytes(600))
    said = []
    data, cache = data_of(tmp_path / "own"), cache_of(tmp_path / "caches")
    with pytest.raises(ConfigError, match=r"1 of 3 shards cannot be read.*\n.*01\.tar.*HTML"):
        build_streamed(ShardsConfig(source=str(shards)), data, cache, encoder, say=said.append)
    assert len(said) == 1
    assert len(list((tmp_path / "caches").glob("*/shard-0000?.json"))) == 2
    page.write_bytes(content)
    calls = encoder.calls
    build_streamed(ShardsConfig(source=str(shards)), data, cache, encoder)
    assert encoder.calls == calls + 3


def test_other_settings_and_folders_are_refused(shards, tmp_path, encoder):
    cache = cache_of(tmp_path / "caches")
    own, _ = streamed(shards, tmp_path / "own", encoder, cache, keep=5)
    with pytest.raises(ConfigError, match=r"was prepared from .* with other settings"):
        streamed(shards, tmp_path / "own", encoder, cache, keep=6)
    with pytest.raises(ConfigError, match="is not empty"):
        streamed(shards, shards, encoder, cache)
    with pytest.raises(ConfigError, match="holds images that were encoded from shards"):
        import_images(ImportConfig(source=str(shards)), tmp_path / "own")
    with pytest.raises(ConfigError, match=r"cache\.enabled False encodes image files"):
        streamed_moments(own, encoder, replace(cache, enabled=False), "size")
    other = ImageFolderSource(data_of(tmp_path / "own", resolution=8), "train")
    with pytest.raises(CacheError, match=r"no latents of these settings .*--shards\.source"):
        streamed_moments(other, encoder, cache, "size")
    with (tmp_path / "own/metadata.jsonl").open("a") as file:
        file.write("{}\n")
    with pytest.raises(ValueError, match="has changed since the images were encoded"):
        ImageFolderSource(data_of(tmp_path / "own"), "train")


def test_the_split_and_number_of_images_need_no_other_latents(shards, tmp_path, make_encoder):
    cache, encoder = cache_of(tmp_path / "caches"), make_encoder()
    streamed(shards, tmp_path / "own", encoder, cache)
    calls = encoder.calls
    changes = {"held_out_share": 0.1, "max_pictures": 3}
    own, _ = streamed(shards, tmp_path / "own", encoder, cache, **changes)
    assert encoder.calls == calls and len(own) == 3
    latents = streamed_moments(own, encoder, cache, "sha256")
    fetched = latents.fetch(torch.tensor([2, 0]), torch.tensor([1, 0]))
    assert fetched.label.tolist() == [own.label(2), own.label(0)]


class LengthEncoder:
    """Text encoder whose features are the length of a caption; counts the captions."""

    def __init__(self):
        self.count = 0

    def encode(self, captions, num_tokens):
        self.count += len(captions)
        lengths = torch.tensor([float(len(caption)) for caption in captions])
        tokens = lengths.view(-1, 1, 1).expand(-1, num_tokens, 2)
        return TextFeatures(tokens=tokens, mask=torch.ones(len(captions), num_tokens).bool())

    def truncated(self, captions, num_tokens):
        return []


def test_captions_of_shards_share_the_cache_of_an_import(shards, tmp_path, encoder):
    cache, text = cache_of(tmp_path / "caches"), LengthEncoder()
    source, _ = imported(shards, tmp_path / "files", encoder, cache)
    own, _ = streamed(shards, tmp_path / "own", encoder, cache)
    config = TextConfig(captions={"name": 1.0, "class": 1.0}, folder=str(tmp_path / "text"))
    rule = TextSemantic(token_features=2, num_tokens=3, padding="zero")
    read = []
    for images in (own, source):
        captions = ImageCaptions(images, config, rule, lambda: text, 0, fingerprint="length")
        read.append((captions.first, captions.measured(torch.arange(len(own))).tokens))
    assert text.count == len({"", *read[0][0], *own.class_names})
    assert read[0][0] == read[1][0] and torch.equal(read[0][1], read[1][1])


def test_parquet_files_are_encoded_too(tmp_path, encoder):
    datasets = pytest.importorskip("datasets")
    rows = {
        "image": [{"bytes": noise_bytes(n), "path": None} for n in range(5)],
        "caption": [f"image {n}" for n in range(5)],
    }
    datasets.Dataset.from_dict(rows).to_parquet(tmp_path / "0.parquet")
    cache = cache_of(tmp_path / "caches")
    own, _ = streamed(tmp_path / "0.parquet", tmp_path / "own", encoder, cache)
    expected, moments = imported(tmp_path / "0.parquet", tmp_path / "files", encoder, cache)
    latents = streamed_moments(own, encoder, cache, "sha256")
    rows = torch.arange(len(own))
    first, second = (made.fetch(rows, rows % 2) for made in (latents, moments))
    torch.testing.assert_close(first.moments.std, second.moments.std, rtol=0, atol=1e-6)
    assert own.name(0) == expected.name(0) and own.name(0).startswith("image ")
