# SPDX-License-Identifier: Apache-2.0
"""Training loss of a KL autoencoder.

    loss = mean |D(z) - x| + kl_weight KL + scale_weight mean |D(pool z) - pool x|

where z is a posterior sample, D the decoder, pool the average over 2 x 2 positions, and KL the
divergence of the posterior N(mean, std^2) from N(0, 1) for one latent value (Kingma & Welling
2014, appendix B), averaged over values:

    KL = (mean^2 + std^2 - 1 - log std^2) / 2

The last term requires that a coarser latent decodes to the coarser image (Skorokhodov et al. 2025,
arXiv 2502.14831; Kouzelis et al. 2025, arXiv 2502.09509). It suppresses fine detail in latents
that only the decoder can use and that a diffusion model would have to learn.

There is deliberately no perceptual term: the only available backbone also computes evaluation
metrics, and an autoencoder trained on the metric would bias the results of every model.
"""

from dataclasses import dataclass

import torch.nn.functional as F
from diffusers import AutoencoderKL
from jaxtyping import Float
from torch import Tensor

from pippin.types import Pixels


@dataclass(frozen=True, kw_only=True)
class AutoencoderLoss:
    """Loss terms, averaged over the batch."""

    total: Float[Tensor, ""]
    pixel: Float[Tensor, ""]
    """Mean absolute error; pixels in [-1, 1]."""
    kl: Float[Tensor, ""]
    """Nats per latent value."""
    scale: Float[Tensor, ""]
    """Mean absolute error of the decoded pooled latent; 0 without a weight."""


def autoencoder_loss(
    network: AutoencoderKL,
    pixels: Pixels,
    noise: Float[Tensor, "batch channels latent_height latent_width"],
    kl_weight: float,
    scale_weight: float,
) -> AutoencoderLoss:
    """Loss of one forward pass through encoder, posterior sample and decoder.

    Args:
        network: network in training.
        pixels: values in [-1, 1].
        noise: standard normal noise with the shape of the latents.
        kl_weight: weight of the divergence per latent value.
        scale_weight: weight of the pooled latent's error; 0 skips it.
    """
    posterior = network.encode(pixels).latent_dist
    mean, std = posterior.mean.float(), posterior.std.float()
    latents = mean + std * noise
    pixel = _decoding_error(network, latents, pixels)
    kl = 0.5 * (mean**2 + std**2 - 1 - 2 * std.log()).mean()
    scale = pixel.new_zeros(())
    if scale_weight:
        scale = _decoding_error(network, F.avg_pool2d(latents, 2), F.avg_pool2d(pixels, 2))
    total = pixel + kl_weight * kl + scale_weight * scale
    return AutoencoderLoss(total=total, pixel=pixel, kl=kl, scale=scale)


def _decoding_error(network: AutoencoderKL, latents: Tensor, pixels: Pixels) -> Tensor:
    return (network.decode(latents).sample.float() - pixels).abs().mean()
