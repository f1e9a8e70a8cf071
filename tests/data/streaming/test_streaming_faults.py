# SPDX-License-Identifier: Apache-2.0
"""Faults of shards that are encoded without unpacking, and settings that do not fit them."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from archives import archive_of
from streamed_shards import cache_of, data_of, noise_bytes, streamed

from pippin.config import ConfigError
from pippin.data.cache.manifest import CacheError
from pippin.data.folder.table_scan import SKIPPED
from pippin.data.importing.config import ImportConfig, ShardsConfig
from pippin.data.importing.importer import import_images
from pippin.data.importing.parts import PARTS
from pippin.data.sources.images import ImageFolderSource
from pippin.data.streaming.build import build_streamed
from pippin.images.files import UnreadableImageError
from pippin.runs.data.streamed import streamed_moments

pytest.importorskip("datasets")


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
