# SPDX-License-Identifier: Apache-2.0
"""Measurements of an autoencoder: latent statistics and reconstruction error."""

from dataclasses import dataclass

import torch
from diffusers import AutoencoderKL
from jaxtyping import Float
from torch import Tensor

from pippin.encoders.affine import Affine
from pippin.encoders.autoencoder import Autoencoder
from pippin.encoders.pixels import to_pixels
from pippin.encoders.statistics import LatentSums
from pippin.types import Images, ImageStream

WHITE = 255


@torch.no_grad()
def measure_affine(network: AutoencoderKL, batches: ImageStream) -> Affine:
    """Mean and standard deviation of each raw latent channel over images and positions.

    The variance is that of a posterior sample: the variance of the means plus the mean of the
    variances. Sums are in float64.

    Raises:
        ValueError: no images.
    """
    device = next(network.parameters()).device
    total, count = torch.zeros(2, network.config.latent_channels, dtype=torch.float64), 0
    for images in batches:
        posterior = network.encode(to_pixels(images.to(device))).latent_dist
        mean, var = posterior.mean.double().cpu(), posterior.var.double().cpu()
        total += torch.stack([mean.sum((0, 2, 3)), (mean**2 + var).sum((0, 2, 3))])
        count += mean[:, 0].numel()
    if not count:
        raise ValueError("latent statistics need at least one batch of images")
    first, second = total / count
    return Affine.from_statistics(first, (second - first**2).sqrt())


@dataclass(frozen=True, kw_only=True)
class Reconstruction:
    """Peak signal-to-noise ratio of reconstructions, on uint8 images with peak 255."""

    images: int
    psnr: float
    """Mean over images of each image's PSNR, in dB."""
    psnr_of_mean_error: float
    """PSNR of the squared error averaged over all pixels of all images, in dB; never above
    ``psnr``."""
    foreground_psnr: float
    """PSNR of the squared error averaged over pixels that are not white in the original, in dB."""


def measure_reconstruction(
    autoencoder: Autoencoder, batches: ImageStream, sums: LatentSums | None = None
) -> Reconstruction:
    """Compare images with the decoded posterior means.

    Args:
        autoencoder: the autoencoder, on its device.
        batches: batches of images.
        sums: accumulator of raw latent statistics, or None.

    Raises:
        ValueError: no images.
    """
    means, foreground = [], torch.zeros(2, dtype=torch.float64)
    for images in batches:
        error = _squared_error(images, reconstruct(autoencoder, images, sums))
        is_foreground = (images != WHITE).any(1).cpu()
        means.append(error.mean((1, 2)))
        foreground += torch.stack([error[is_foreground].sum(), is_foreground.sum()])
    if not means:
        raise ValueError("a reconstruction error needs at least one batch of images")
    mean = torch.cat(means)
    return Reconstruction(
        images=len(mean),
        psnr=float(_decibels(mean).mean()),
        psnr_of_mean_error=float(_decibels(mean.mean())),
        foreground_psnr=float(_decibels(foreground[0] / foreground[1])),
    )


def reconstruct(
    autoencoder: Autoencoder, images: Images, sums: LatentSums | None = None
) -> Images:
    """Decode the posterior mean of images; ``sums`` accumulates the raw latents."""
    moments = autoencoder.encode(to_pixels(images.to(autoencoder.shift.device)))
    if sums is not None:
        sums.add(moments)
    return autoencoder.decode(autoencoder.normalise(moments.mean))


def _squared_error(images: Images, decoded: Images) -> Float[Tensor, "batch height width"]:
    """Squared error of each pixel, in levels, averaged over colours."""
    return (decoded.double().cpu() - images.double().cpu()).pow(2).mean(1)


def _decibels(squared_error: Float[Tensor, " *shape"]) -> Float[Tensor, " *shape"]:
    """PSNR 10 log10(255^2 / error); an exact image counts as 100 dB."""
    return -10 * (squared_error / 255**2).clamp_min(1e-10).log10()
