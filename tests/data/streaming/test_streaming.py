# SPDX-License-Identifier: Apache-2.0
"""Shards encoded without unpacking: equal to import and cache, with a bounded sample of files."""

import pytest
import torch
from streamed_shards import cache_of, contents, data_of, imported, noise_bytes, streamed

from pippin.conditioning.config import TextSemantic
from pippin.data.cache.build import build_cache
from pippin.data.importing.config import ImportConfig
from pippin.data.importing.importer import import_images
from pippin.data.loader import LatentLoader
from pippin.data.moments import bucketed_moments
from pippin.data.sources.images import ImageFolderSource
from pippin.encoders.config import TextConfig
from pippin.runs.data.streamed import streamed_moments
from pippin.runs.text_inputs import ImageCaptions
from pippin.types import TextFeatures

pytest.importorskip("datasets")


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
