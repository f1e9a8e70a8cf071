# SPDX-License-Identifier: Apache-2.0
"""The training loss of a KL autoencoder.

    loss = mean |decoded - pixels| + kl_weight KL

where KL is the divergence of the posterior N(mean, std^2) from N(0, 1) for one latent number
(Kingma & Welling 2014, appendix B), averaged over numbers:

    KL = (mean^2 + std^2 - 1 - log std^2) / 2

There is no perceptual term on purpose: the only backbone at hand is also what evaluation measures
with, and an autoencoder trained on the measure would flatter every model behind it.
"""

from dataclasses import dataclass

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


def autoencoder_loss(
    network: AutoencoderKL,
    pixels: Pixels,
    noise: Float[Tensor, "batch channels latent_height latent_width"],
    kl_weight: float,
) -> AutoencoderLoss:
    """One forward pass through encoder, a posterior sample and decoder.

    Args:
        network: in training.
        pixels: in [-1, 1].
        noise: standard normal, of the latents' shape.
        kl_weight: of the divergence per latent number.
    """
    posterior = network.encode(pixels).latent_dist
    mean, std = posterior.mean.float(), posterior.std.float()
    decoded = network.decode(mean + std * noise).sample.float()
    pixel = (decoded - pixels).abs().mean()
    kl = 0.5 * (mean**2 + std**2 - 1 - 2 * std.log()).mean()
    return AutoencoderLoss(total=pixel + kl_weight * kl, pixel=pixel, kl=kl)
