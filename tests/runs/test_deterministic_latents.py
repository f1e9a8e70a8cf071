# SPDX-License-Identifier: Apache-2.0
"""Latents of other classes than AutoencoderKL in caches: no deviation where the encoder is
deterministic, and measured statistics that are kept beside them."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_autoencoders import tiny_network

from pippin.data.cache.build import build_cache
from pippin.data.cache.cache_folders import list_caches, remove_cache
from pippin.data.cache.latent_cache import LatentCache
from pippin.data.config import CacheConfig, OpenMojiConfig
from pippin.data.sources.factory import build_source
from pippin.encoders.autoencoder import Autoencoder
from pippin.encoders.config import AutoencoderConfig
from pippin.planning.data_sizes import latent_bytes
from pippin.recipes.checks import check_resolution
from pippin.recipes.recipe import latent_layout, latent_shape_of
from pippin.recipes.table import get_recipe
from pippin.runs.latents import measure_latents

DATA = OpenMojiConfig(resolution=16, max_pictures=6, views=2)
ROWS = (torch.arange(6), torch.arange(6) % 2)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A deterministic autoencoder in diffusers' format."""
    place = tmp_path_factory.mktemp("dc")
    tiny_network("AutoencoderDC").save_pretrained(place)
    return place


@pytest.fixture(scope="module")
def own(folder: Path) -> Autoencoder:
    return Autoencoder.from_folder(folder)


@pytest.fixture
def cache(own: Autoencoder, tmp_path: Path) -> LatentCache:
    config = CacheConfig(folder=str(tmp_path / "caches"), dtype="float32", shard_size=8)
    return build_cache(build_source(DATA, "train"), own, config)


def test_a_deterministic_encoder_stores_no_deviation(cache: LatentCache, folder: Path) -> None:
    shards = [load_file(path) for path in sorted(cache.folder.glob("shard-*"))]
    assert len(shards) == 2 and not any("std" in shard for shard in shards)
    assert cache.fetch(*ROWS).moments.std is None
    recipe = replace(
        get_recipe("openmoji/dit-entangled"),
        autoencoder=AutoencoderConfig(source=str(folder)),
        data=DATA,
        cache=CacheConfig(dtype="float32"),
    )
    assert not latent_layout(recipe).has_variance
    stored = sum(value.nbytes for shard in shards for value in shard.values())
    assert latent_bytes(recipe, latent_shape_of(recipe)) * 6 == stored


def test_a_cache_that_stores_zeros_for_some_images_is_read(cache: LatentCache) -> None:
    """An earlier version stored the deviation of pixels, which is 0."""
    expected = cache.fetch(*ROWS).moments.mean
    path = cache.folder / cache.manifest.shards[1].name
    tensors = load_file(path)
    save_file(tensors | {"std": torch.zeros_like(tensors["mean"])}, path)
    mixed = LatentCache(cache.folder, cache.manifest).fetch(*ROWS).moments
    assert torch.equal(mixed.mean, expected)
    assert mixed.std is not None and not mixed.std.any()


@pytest.mark.parametrize("name", ["AutoencoderDC", "AutoencoderTiny", "AutoencoderKLKVAE"])
def test_measured_statistics_give_each_channel_mean_0_and_deviation_1(
    tmp_path: Path, name: str
) -> None:
    own = Autoencoder(tiny_network(name), None)
    source = build_source(replace(DATA, views=1), "train")  # all latents are measured
    cache = build_cache(source, own, CacheConfig(folder=str(tmp_path), dtype="float32"))
    statistics = measure_latents(cache, own.fingerprint, seed=0)
    assert statistics.images == 6
    moments = cache.fetch(torch.arange(6), torch.zeros(6, dtype=torch.long)).moments
    normalised = own.with_affine(statistics.affine).normalise(moments.mean).double()
    variance = normalised.var((0, 2, 3), unbiased=False)
    if moments.std is not None:  # of posterior samples
        variance += (moments.std / statistics.affine.scale).double().square().mean((0, 2, 3))
    assert normalised.mean((0, 2, 3)).abs().max() < 1e-5
    assert (variance - 1).abs().max() < 1e-5


def test_statistics_are_kept_beside_the_cache(
    cache: LatentCache, own: Autoencoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = measure_latents(cache, own.fingerprint, seed=0)
    (path,) = cache.folder.glob("statistics-*.json")
    again = LatentCache(cache.folder, cache.manifest)
    monkeypatch.setattr(again, "rows", lambda *_: pytest.fail("the latents were read again"))
    assert measure_latents(again, own.fingerprint, seed=0) == first
    kept = json.loads(path.read_text())
    for damaged in ({}, kept | {"mean": kept["mean"][1:]}, kept | {"std": kept["std"][:1]}):
        path.write_text(json.dumps(damaged))
        assert measure_latents(cache, own.fingerprint, seed=0) == first
    narrow = {"mean": kept["mean"][1:], "std": kept["std"][1:]}  # of another autoencoder
    path.write_text(json.dumps(kept | narrow))
    assert measure_latents(cache, own.fingerprint, seed=0) == first
    assert measure_latents(cache, own.fingerprint, seed=1).images == 6
    assert len(list(cache.folder.glob("statistics-*.json"))) == 2
    (listed,) = list_caches(cache.folder.parent)
    remove_cache(listed.path)
    assert not cache.folder.exists()


def test_a_grid_that_is_too_small_for_the_patches_says_what_fits(folder: Path) -> None:
    recipe = get_recipe("openmoji/dit-entangled")
    denoiser = replace(recipe.denoiser, patch_size=2)
    recipe = replace(recipe, denoiser=denoiser, data=replace(recipe.data, resolution=96))
    with pytest.raises(
        ValueError, match=r"factor 32 times the 2.*got 96: take 64 or 128, or --de"
    ):
        check_resolution(recipe, 32)
