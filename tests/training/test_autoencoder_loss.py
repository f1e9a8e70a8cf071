# SPDX-License-Identifier: Apache-2.0
"""The loss against torch.distributions and diffusers."""

import pytest
import torch
from diffusers import AutoencoderKL
from torch.distributions import Normal, kl_divergence

from pippin.encoders.normalisation import to_pixels
from pippin.training.autoencoder.loss import autoencoder_loss
from pippin.types import Images


def test_parts_against_independent_formulas(network: AutoencoderKL, images: Images) -> None:
    pixels = to_pixels(images)
    noise = torch.randn(12, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        loss = autoencoder_loss(network, pixels, noise, kl_weight=0.3, scale_weight=0.5)
        posterior = network.encode(pixels).latent_dist
        latents = posterior.mean + posterior.std * noise
        decoded = network.decode(latents).sample
        coarse = network.decode(
            torch.nn.functional.interpolate(latents, scale_factor=0.5, mode="area")
        )
    kl = kl_divergence(Normal(posterior.mean, posterior.std), Normal(0.0, 1.0)).mean()
    pixel = torch.nn.functional.l1_loss(decoded, pixels)
    smaller = torch.nn.functional.interpolate(pixels, scale_factor=0.5, mode="area")
    scale = torch.nn.functional.l1_loss(coarse.sample, smaller)
    assert loss.scale.item() == pytest.approx(scale.item(), rel=1e-5)
    assert loss.kl.item() == pytest.approx(kl.item(), rel=1e-5)
    assert loss.pixel.item() == pytest.approx(pixel.item(), rel=1e-5)
    assert loss.total.item() == pytest.approx((pixel + 0.3 * kl + 0.5 * scale).item(), rel=1e-5)
