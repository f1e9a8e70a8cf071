# SPDX-License-Identifier: Apache-2.0
"""Latent statistics and reconstruction error."""

import pytest
import torch
from diffusers import AutoencoderKL

from pippin.encoders.autoencoder import Autoencoder
from pippin.encoders.normalisation import Affine, to_pixels
from pippin.encoders.statistics import measure_affine, measure_reconstruction
from pippin.rng import normal
from pippin.types import Images


def test_measured_affine_gives_unit_latents(network: AutoencoderKL, images: Images) -> None:
    autoencoder = Autoencoder(network, measure_affine(network, images.split(5)))
    moments = autoencoder.encode(to_pixels(images))
    noises = [normal(tuple(moments.mean.shape), "noise", i) for i in range(50)]
    latents = torch.stack([autoencoder.sample(moments, noise) for noise in noises])
    assert latents.mean((0, 1, 3, 4)).abs().max() < 0.02
    assert (latents.std((0, 1, 3, 4)) - 1).abs().max() < 0.02


def test_statistics_do_not_depend_on_the_batches(network: AutoencoderKL, images: Images) -> None:
    whole = measure_affine(network, [images])
    parts = measure_affine(network, images.split(5))
    torch.testing.assert_close(whole.shift, parts.shift)
    torch.testing.assert_close(whole.scale, parts.scale)


class _Constant(Autoencoder):
    """Autoencoder that decodes to a constant level."""

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        return torch.full((len(latents), 3, 16, 16), 100, dtype=torch.uint8)


def test_ratio_in_closed_form(network: AutoencoderKL) -> None:
    autoencoder = _Constant(network, Affine.from_statistics(torch.zeros(3), torch.ones(3)))
    levels = torch.tensor([110, 130, 100], dtype=torch.uint8)
    images = levels.view(3, 1, 1, 1).expand(3, 3, 16, 16)
    result = measure_reconstruction(autoencoder, images.split(2))
    one, two = 20 * torch.tensor([255 / 10, 255 / 30]).log10()
    assert result.images == 3
    assert result.psnr == pytest.approx((one + two + 100) / 3)  # an exact image counts as 100 dB
    of_mean = 10 * torch.tensor(255**2 / ((100 + 900) / 3)).log10()
    assert result.psnr_of_mean_error == pytest.approx(of_mean.item())


def test_foreground_leaves_white_pixels_out(network: AutoencoderKL) -> None:
    autoencoder = _Constant(network, Affine.from_statistics(torch.zeros(3), torch.ones(3)))
    images = torch.full((2, 3, 16, 16), 255, dtype=torch.uint8)
    images[0, 1, :4] = 110  # one colour of a quarter of the pixels
    result = measure_reconstruction(autoencoder, [images])
    of_drawn = 10 * torch.tensor(255**2 / ((2 * 155**2 + 10**2) / 3)).log10()
    assert result.foreground_psnr == pytest.approx(of_drawn.item())


def test_no_images_are_refused(network: AutoencoderKL) -> None:
    with pytest.raises(ValueError, match="at least one image"):
        measure_affine(network, [])
