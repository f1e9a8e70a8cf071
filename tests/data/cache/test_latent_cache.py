# SPDX-License-Identifier: Apache-2.0
import dataclasses
import json
import pickle
from pathlib import Path

import pytest
import torch
from edited_json import edit
from safetensors import safe_open
from safetensors.torch import load_file

from pippin.config import protocol, replace_at
from pippin.data.cache import manifest as manifest_module
from pippin.data.cache.build import build_cache
from pippin.data.cache.latent_cache import LatentCache
from pippin.data.cache.manifest import CacheError, cache_ingredients, cache_key
from pippin.data.config import CacheConfig, OpenMojiConfig
from pippin.data.moments import EncodedViews
from pippin.system.formats import FormatError
from pippin.system.tensors import save_tensors

KEYS = torch.tensor([6, 0, 3, 6, 1]), torch.tensor([2, 0, 1, 0, 2])


@pytest.fixture
def config(tmp_path: Path) -> CacheConfig:
    return CacheConfig(folder=str(tmp_path / "caches"), shard_size=5)  # 21 rows: 5 shards


@pytest.fixture
def cache(noise_source, encoder, config: CacheConfig) -> LatentCache:
    return build_cache(noise_source, encoder, config)


def damage(cache: LatentCache, number: int, content: bytes | None) -> str:
    """Overwrite or delete a shard; returns its name."""
    path = cache.folder / cache.manifest.shards[number].name
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    return path.name


def content(cache: LatentCache, number: int) -> bytes:
    return (cache.folder / cache.manifest.shards[number].name).read_bytes()


# float32: rounding of the encoder in batches of other sizes; the others: half a unit of theirs.
@pytest.mark.parametrize(
    ("dtype", "tolerance"), [("float32", 1e-6), ("float16", 2**-11), ("bfloat16", 2**-8)]
)
def test_cached_equals_on_the_fly(
    noise_source, encoder, config, dtype: str, tolerance: float
) -> None:
    cache = build_cache(noise_source, encoder, dataclasses.replace(config, dtype=dtype))
    cached = cache.fetch(*KEYS)
    fresh = EncodedViews(noise_source, encoder, encode_batch=2).fetch(*KEYS)
    assert cached.moments.mean.dtype == torch.float32
    torch.testing.assert_close(
        cached.moments.mean, fresh.moments.mean, rtol=tolerance, atol=tolerance / 10
    )
    torch.testing.assert_close(
        cached.moments.std, fresh.moments.std, rtol=tolerance, atol=tolerance / 10
    )
    assert torch.equal(cached.label, fresh.label)
    assert cached.control.keys() == fresh.control.keys()
    assert all(torch.equal(cached.control[n], fresh.control[n]) for n in fresh.control)


def test_an_existing_cache_opens(noise_source, encoder, config, cache: LatentCache) -> None:
    for verify in ("size", "sha256"):
        opened = LatentCache.open(noise_source, encoder, config, verify)
        assert (len(opened), opened.num_views) == (7, 3)
        assert torch.equal(opened.fetch(*KEYS).moments.mean, cache.fetch(*KEYS).moments.mean)


def test_the_manifest_lists_every_row_once(cache: LatentCache) -> None:
    shards = cache.manifest.shards
    assert [(s.first_row, s.end_row) for s in shards] == [
        (0, 5),
        (5, 10),
        (10, 15),
        (15, 20),
        (20, 21),
    ]
    assert cache.folder.name == cache.manifest.key


def test_only_the_shards_asked_for_are_opened(cache: LatentCache) -> None:
    damage(cache, 4, None)
    rows_of_shard_0 = torch.tensor([0, 4]), torch.tensor([0, 0])
    assert cache.fetch(*rows_of_shard_0).label.tolist() == [0, 1]
    with pytest.raises(FileNotFoundError):
        cache.fetch(torch.tensor([6]), torch.tensor([2]))


def test_a_cache_travels_to_another_process(cache: LatentCache) -> None:
    before = cache.fetch(*KEYS)
    copy = pickle.loads(pickle.dumps(cache))
    assert torch.equal(copy.fetch(*KEYS).moments.std, before.moments.std)


def test_indices_and_views_out_of_range_are_refused(cache: LatentCache) -> None:
    with pytest.raises(ValueError, match=r"image index must be in range\(7\); got -1"):
        cache.fetch(torch.tensor([-1]), torch.tensor([0]))
    with pytest.raises(ValueError, match=r"view must be in range\(3\); got 3"):
        cache.fetch(torch.tensor([0]), torch.tensor([3]))


OTHER_VALUES = {
    "kind": None,  # one kind so far
    "resolution": 16,
    "art": ("openmoji", "twemoji"),
    "left_out": ("green apple",),
    "tones": "all",
    "size_law.smallest": 10,
    "size_law.largest": 300,
    "size_law.class_correlation": 0.5,
    "crop_law.smallest": 0.5,
    "crop_law.largest": 0.9,
    "crop_law.flip_probability": 0.0,
    "crop_law.local_share": 0.5,
    "look.colour_jitter": 0.5,
    "look.jpeg_share": 0.5,
    "look.jpeg_smallest": 20,
    "look.jpeg_largest": 90,
    "views": 4,
    "max_pictures": 3,
    "seed": 6,
}


@pytest.mark.parametrize("path", protocol(OpenMojiConfig()))
def test_each_data_setting_changes_the_key(noise_source, encoder, config, path: str) -> None:
    before = cache_ingredients(noise_source, encoder, config)
    value = OTHER_VALUES[path]
    if value is None:
        assert f"data.{path}" in before
        return
    noise_source.config = replace_at(noise_source.config, path, value)
    assert cache_key(cache_ingredients(noise_source, encoder, config)) != cache_key(before)


@pytest.mark.parametrize("change", ["autoencoder", "split", "source", "dtype", "cache_version"])
def test_each_other_ingredient_changes_the_key(
    noise_source, encoder, config, change: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = cache_ingredients(noise_source, encoder, config)
    match change:
        case "autoencoder":
            encoder.name = "other"
        case "split":
            noise_source.split = "held-out"
        case "source":
            noise_source.content = "f" * 16
        case "dtype":
            config = dataclasses.replace(config, dtype="float16")
        case "cache_version":
            monkeypatch.setattr(manifest_module, "CACHE_VERSION", 2)
    after = cache_ingredients(noise_source, encoder, config)
    assert {name for name in before if before[name] != after[name]} == {change}
    assert cache_key(after) != cache_key(before)


def test_where_and_in_what_portions_it_is_kept_does_not_change_the_key(
    noise_source, encoder, config
) -> None:
    other = CacheConfig(folder="elsewhere", shard_size=9, enabled=False)
    assert cache_ingredients(noise_source, encoder, other) == cache_ingredients(
        noise_source, encoder, config
    )


def test_an_absent_cache_is_refused(noise_source, encoder, config) -> None:
    with pytest.raises(CacheError, match=r"no latent cache for these settings at .*: build it"):
        LatentCache.open(noise_source, encoder, config)


def test_a_stale_cache_is_refused_and_the_difference_named(
    noise_source, encoder, config, cache: LatentCache
) -> None:
    encoder.name = "retrained"
    with pytest.raises(CacheError, match=r"differs: autoencoder is 'pooling' .* 'retrained' here"):
        LatentCache.open(noise_source, encoder, config)


def test_a_renamed_cache_is_refused(noise_source, encoder, config, cache: LatentCache) -> None:
    noise_source.config = replace_at(noise_source.config, "crop_law.smallest", 0.5)
    key = cache_key(cache_ingredients(noise_source, encoder, config))
    cache.folder.rename(cache.folder.parent / key)
    with pytest.raises(
        CacheError, match=r"other settings: data.crop_law.smallest is 0.75 there, 0.5"
    ):
        LatentCache.open(noise_source, encoder, config)


def test_an_unfinished_cache_is_refused(noise_source, encoder, config, cache: LatentCache) -> None:
    (cache.folder / "manifest.json").unlink()
    with pytest.raises(CacheError, match=r"unfinished: it has no manifest.json"):
        LatentCache.open(noise_source, encoder, config)


@pytest.mark.parametrize("text", ["", "{", '{"key": 3}', "\x00\xff"])
def test_a_damaged_manifest_is_refused(
    noise_source, encoder, config, cache: LatentCache, text: str
) -> None:
    (cache.folder / "manifest.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(CacheError, match=r"damaged manifest.json"):
        LatentCache.open(noise_source, encoder, config)


def test_a_manifest_with_another_key_is_refused(
    noise_source, encoder, config, cache: LatentCache
) -> None:
    path = cache.folder / "manifest.json"
    edit(path, key="0" * 16)
    with pytest.raises(CacheError, match="has the key '0000000000000000'"):
        LatentCache.open(noise_source, encoder, config)


@pytest.mark.parametrize("verify", ["size", "sha256"])
def test_a_deleted_shard_is_named(noise_source, encoder, config, cache, verify: str) -> None:
    name = damage(cache, 2, None)
    with pytest.raises(CacheError, match=rf"{name} is missing"):
        LatentCache.open(noise_source, encoder, config, verify)


@pytest.mark.parametrize("verify", ["size", "sha256"])
def test_a_truncated_shard_is_named(noise_source, encoder, config, cache, verify: str) -> None:
    whole = content(cache, 3)
    name = damage(cache, 3, whole[:-7])
    with pytest.raises(
        CacheError, match=rf"{name} has {len(whole) - 7} bytes instead of {len(whole)}"
    ):
        LatentCache.open(noise_source, encoder, config, verify)


def test_a_flipped_bit_is_found_by_the_checksum(noise_source, encoder, config, cache) -> None:
    flipped = bytearray(content(cache, 1))
    flipped[-1] ^= 1
    name = damage(cache, 1, bytes(flipped))
    with pytest.raises(CacheError, match=rf"{name} has a wrong checksum"):
        LatentCache.open(noise_source, encoder, config)
    LatentCache.open(noise_source, encoder, config, verify="size")  # as promised, not looked for


COUNTS = ["num_pictures", "num_views", "shard_size", "first_row", "end_row", "num_bytes"]


@pytest.mark.parametrize("change", [-1, 1, 7, 2**40])
@pytest.mark.parametrize("checked", [True, False], ids=["format 1", "format 0"])
@pytest.mark.parametrize("name", COUNTS)
def test_one_changed_count_of_a_manifest_is_found_and_mended(
    noise_source, encoder, config, cache, name: str, checked: bool, change: int
) -> None:
    path = cache.folder / "manifest.json"
    good = path.read_bytes()
    values = json.loads(good)
    where = values if name in values else values["shards"][1]
    where[name] += change
    path.write_text(json.dumps(values))
    if not checked:  # as earlier versions wrote it
        edit(path, format=0)
    calls = encoder.calls
    with pytest.raises(CacheError):
        LatentCache.open(noise_source, encoder, config, "size")
    build_cache(noise_source, encoder, config)
    assert path.read_bytes() == good
    assert encoder.calls == calls  # all shards were whole
    assert len(LatentCache.open(noise_source, encoder, config, "sha256")) == 7


def test_a_newer_cache_is_not_built_over(noise_source, encoder, config, cache) -> None:
    path = cache.folder / "manifest.json"
    edit(path, format=99)
    before = path.read_bytes()
    with pytest.raises(FormatError, match="latent cache format 99"):
        build_cache(noise_source, encoder, config)
    assert path.read_bytes() == before
    path.unlink()
    shard = cache.folder / "shard-00000.safetensors"
    tensors = load_file(shard)
    with safe_open(shard, framework="pt") as file:
        header = json.loads(file.metadata()["pippin"]) | {"format": 99}
    save_tensors(shard, tensors, metadata={"pippin": json.dumps(header)})
    with pytest.raises(FormatError, match=r"shard-00000\.safetensors .* cache shard format 99"):
        build_cache(noise_source, encoder, config)
    with safe_open(shard, framework="pt") as file:
        assert json.loads(file.metadata()["pippin"]) == header


def test_a_newer_cache_beside_it_does_not_matter(noise_source, encoder, config, cache) -> None:
    edit(cache.folder / "manifest.json", format=99)
    with pytest.raises(CacheError, match="no latent cache for these settings"):
        LatentCache.open(noise_source, encoder, dataclasses.replace(config, dtype="float16"))
