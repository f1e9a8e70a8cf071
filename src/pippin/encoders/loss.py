# SPDX-License-Identifier: Apache-2.0
"""The training loss of a KL autoencoder.

    loss = mean |D(z) - x| + kl_weight KL + scale_weight mean |D(pool z) - pool x|

where z is a posterior sample, D the decoder, pool the average over 2 x 2 places, and KL the
divergence of the posterior N(mean, std^2) from N(0, 1) for one latent number (Kingma & Welling
2014, appendix B), averaged over numbers:

    KL = (mean^2 + std^2 - 1 - log std^2) / 2

The last term asks that a coarser latent decodes to the coarser picture (Skorokhodov et al. 2025,
arXiv 2502.14831; Kouzelis et al. 2025, arXiv 2502.09509): it keeps out of the latents fine detail
that only the decoder can read and that a diffusion model would have to learn.

There is no perceptual term on purpose: the only backbone at hand is also what evaluation measures
with, and an autoencoder trained on the measure would flatter every model behind it.
"""

from dataclasses import dataclass

import torch.nn.functional as F
from diffusers import AutoencoderKL
from jaxtyping import Float
from torch import Tensor

from pippin.types import Pixels


@dataclass(frozen=True, kw_only=True)
class AutoencoderLoss:
    """Means over the batch."""

    total: Float[Tensor, ""]
    pixel: Float[Tensor, ""]
    """Mean absolute error; pixels in [-1, 1]."""
    kl: Float[Tensor, ""]
    """Nats per latent number."""
    scale: Float[Tensor, ""]
    """Mean absolute error of the pooled latent's picture; 0 where it has no weight."""


def autoencoder_loss(
    network: AutoencoderKL,
    pixels: Pixels,
    noise: Float[Tensor, "batch channels latent_height latent_width"],
    kl_weight: float,
    scale_weight: float,
) -> AutoencoderLoss:
    """One forward pass through encoder, a posterior sample and decoder.

    Args:
        network: in training.
        pixels: in [-1, 1].
        noise: standard normal, of the latents' shape.
        kl_weight: of the divergence per latent number.
        scale_weight: of the pooled latent's error; 0 leaves it out.
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
