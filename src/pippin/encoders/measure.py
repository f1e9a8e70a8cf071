# SPDX-License-Identifier: Apache-2.0
"""What is measured of an autoencoder: latent statistics and reconstruction error."""

from dataclasses import dataclass

import torch
from diffusers import AutoencoderKL
from jaxtyping import Float
from torch import Tensor

from pippin.encoders.affine import Affine
from pippin.encoders.autoencoder import Autoencoder
from pippin.encoders.pixels import to_pixels
from pippin.types import Images, ImageStream


@torch.no_grad()
def measure_affine(network: AutoencoderKL, batches: ImageStream) -> Affine:
    """Mean and standard deviation of each raw latent channel over pictures and places.

    The variance is that of a posterior sample: the variance of the means plus the mean of the
    variances. Sums are taken in float64.

    Raises:
        ValueError: no pictures.
    """
    device = next(network.parameters()).device
    total, count = torch.zeros(2, network.config.latent_channels, dtype=torch.float64), 0
    for images in batches:
        posterior = network.encode(to_pixels(images.to(device))).latent_dist
        mean, var = posterior.mean.double().cpu(), posterior.var.double().cpu()
        total += torch.stack([mean.sum((0, 2, 3)), (mean**2 + var).sum((0, 2, 3))])
        count += mean[:, 0].numel()
    if not count:
        raise ValueError("latent statistics need at least one batch of pictures")
    first, second = total / count
    return Affine.from_statistics(first, (second - first**2).sqrt())


@dataclass(frozen=True, kw_only=True)
class Reconstruction:
    """Peak signal-to-noise ratio of encode then decode, on uint8 images with peak 255."""

    images: int
    psnr: float
    """dB: mean over images of each image's own ratio."""
    psnr_of_mean_error: float
    """dB: of the squared error averaged over all pixels of all images; never the larger one."""


def measure_reconstruction(autoencoder: Autoencoder, batches: ImageStream) -> Reconstruction:
    """Encode, take the posterior's mean, decode, compare.

    Raises:
        ValueError: no pictures.
    """
    errors = [_squared_errors(autoencoder, images) for images in batches]
    if not errors:
        raise ValueError("a reconstruction error needs at least one batch of pictures")
    error = torch.cat(errors)
    return Reconstruction(
        images=len(error),
        psnr=float(_decibels(error).mean()),
        psnr_of_mean_error=float(_decibels(error.mean())),
    )


def _squared_errors(autoencoder: Autoencoder, images: Images) -> Float[Tensor, " batch"]:
    """Mean squared error of each image, in levels."""
    images = images.to(autoencoder.shift.device)
    moments = autoencoder.encode(to_pixels(images))
    decoded = autoencoder.decode(autoencoder.normalise(moments.mean))
    return (decoded.double() - images.double()).pow(2).mean((1, 2, 3)).cpu()


def _decibels(squared_error: Float[Tensor, " *shape"]) -> Float[Tensor, " *shape"]:
    """10 log10(255^2 / error); an exact image counts as 100 dB."""
    return -10 * (squared_error / 255**2).clamp_min(1e-10).log10()
