# SPDX-License-Identifier: Apache-2.0
"""The identity as an autoencoder: images are their own latents, exactly."""

import dataclasses

import pytest
import torch

from pippin.data.cache.build import build_cache
from pippin.data.config import CacheConfig, OpenMojiConfig
from pippin.data.sources.factory import build_source
from pippin.data.views.views import make_views
from pippin.encoders.autoencoder import Autoencoder
from pippin.encoders.config import PIXELS, AutoencoderConfig
from pippin.encoders.normalisation import Affine, to_pixels
from pippin.encoders.shipped_digest import shipped_digest
from pippin.encoders.source import find_autoencoder
from pippin.encoders.statistics import measure_reconstruction
from pippin.recipes.recipe import factor_and_channels, has_known_latents, latent_shape_of
from pippin.recipes.table import get_recipe
from pippin.rng import normal
from pippin.system.tensors import recorded_digest
from pippin.types import Images


@pytest.fixture(scope="module")
def pixels() -> Autoencoder:
    return Autoencoder.load(AutoencoderConfig(source=PIXELS))


def test_every_level_survives_the_round_trip(pixels: Autoencoder) -> None:
    levels = torch.arange(256).to(torch.uint8).view(1, 1, 8, 32).expand(2, 3, 8, 32)
    moments = pixels.encode(to_pixels(levels))
    assert moments.std is None
    latents = pixels.sample(moments, normal((2, 3, 8, 32), "noise", 0))
    assert torch.equal(latents, to_pixels(levels))
    assert torch.equal(pixels.decode(latents), levels)
    assert measure_reconstruction(pixels, [levels]).psnr == 100  # an exact image


def test_decoding_clamps(pixels: Autoencoder) -> None:
    outside = torch.tensor([-3.0, 1.5, 0.001]).view(1, 3, 1, 1)
    assert pixels.decode(outside).flatten().tolist() == [0, 255, 128]


def test_any_side_fits(pixels: Autoencoder) -> None:
    assert pixels.latent_shape(31, 48) == (3, 31, 48)
    recipe = get_recipe("openmoji/dit-entangled")
    recipe = dataclasses.replace(recipe, autoencoder=AutoencoderConfig(source=PIXELS))
    assert factor_and_channels(recipe) == (1, 3) and has_known_latents(recipe)
    assert latent_shape_of(recipe) == (3, 64, 64)


def test_the_folder_is_the_shipped_one_and_can_be_saved(pixels, tmp_path) -> None:
    folder = find_autoencoder(AutoencoderConfig(source=PIXELS))
    assert shipped_digest(folder) == recorded_digest(folder)
    scaled = pixels.with_affine(Affine.from_statistics(torch.zeros(3), torch.full((3,), 0.5)))
    scaled.save(tmp_path / "scaled")
    loaded = Autoencoder.load(AutoencoderConfig(source=str(tmp_path / "scaled")))
    assert loaded.fingerprint == scaled.fingerprint != pixels.fingerprint
    assert torch.equal(loaded.normalise(torch.ones(1, 3, 1, 1)), torch.full((1, 3, 1, 1), 2.0))


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_a_cache_gives_the_images_back(pixels, tmp_path, dtype: str) -> None:
    """Levels are 2 / 255 apart, and float16 rounds numbers below 1 by at most 2^-12."""
    source = build_source(OpenMojiConfig(resolution=16, max_pictures=4, views=2), "train")
    cache = build_cache(source, pixels, CacheConfig(folder=str(tmp_path), dtype=dtype))
    batch = cache.fetch(torch.tensor([2, 0]), torch.tensor([0, 1]))
    images: Images = make_views(source, [2, 0], [0, 1]).images
    assert torch.equal(pixels.decode(pixels.normalise(batch.moments.mean)), images)
