# SPDX-License-Identifier: Apache-2.0
"""Shipped autoencoder."""

import json
from importlib.resources import files

import pytest
import torch

from pippin.data.config import OpenMojiConfig
from pippin.data.source import ImageSource
from pippin.data.sources.factory import build_source
from pippin.data.views.views import make_views
from pippin.encoders.autoencoder import Autoencoder
from pippin.encoders.config import AutoencoderConfig
from pippin.encoders.normalisation import to_pixels
from pippin.encoders.statistics import measure_reconstruction
from pippin.rng import normal
from pippin.types import Images

FOLDER = files("pippin.encoders") / "weights" / "openmoji-f4"


@pytest.fixture(scope="module")
def shipped() -> Autoencoder:
    return Autoencoder.load(AutoencoderConfig())


@pytest.fixture(scope="module")
def held_out() -> Images:
    source: ImageSource = build_source(OpenMojiConfig(), "held-out")
    indices = range(0, len(source), 9)
    return make_views(source, indices, [0] * len(indices)).images


def test_it_is_small() -> None:
    assert sum(len(file.read_bytes()) for file in FOLDER.iterdir()) <= 4_000_000


def test_it_is_f4_with_four_channels(shipped: Autoencoder) -> None:
    assert shipped.latent_shape(64) == (4, 16, 16)
    assert shipped.latent_shape(256) == (4, 64, 64)


def test_recorded_fingerprint_is_its_own(shipped: Autoencoder) -> None:
    quality = json.loads((FOLDER / "quality.json").read_text())
    assert quality["fingerprint"] == shipped.fingerprint


def test_held_out_images_are_reconstructed(shipped: Autoencoder, held_out: Images) -> None:
    result = measure_reconstruction(shipped, held_out.split(32))
    assert result.psnr > 29  # dB; the model card has the figure for all held-out images


def test_normalised_latents_have_about_unit_variance(
    shipped: Autoencoder, held_out: Images
) -> None:
    moments = shipped.encode(to_pixels(held_out))
    latents = shipped.sample(moments, normal(tuple(moments.mean.shape), "noise", 0))
    assert latents.shape[1:] == (4, 16, 16)
    assert 0.9 < latents.std() < 1.1
    assert torch.isfinite(latents).all()
