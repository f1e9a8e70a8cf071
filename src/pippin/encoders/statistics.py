# SPDX-License-Identifier: Apache-2.0
"""Statistics of raw latents, and the reconstruction error of an autoencoder."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from diffusers import AutoencoderKL
from jaxtyping import Float
from torch import Tensor

from pippin.config import Config
from pippin.encoders.autoencoder import Autoencoder
from pippin.encoders.networks import encode_raw, network_kind
from pippin.encoders.normalisation import Affine, to_pixels
from pippin.encoders.representation.network import RepresentationNetwork
from pippin.types import Images, ImageStream, Moments

CONSTANT = 1e-8
"""Relative threshold for constant channels: a smaller ratio of the variance of the means to the
mean square is float32 rounding of equal numbers."""


@dataclass(frozen=True, kw_only=True)
class LatentStatistics(Config):
    """Mean and standard deviation of each channel of posterior samples, before normalisation."""

    mean: tuple[float, ...]
    std: tuple[float, ...]
    images: int
    """Number of images in the sample; 0 if the numbers come from initial weights of a run."""
    autoencoder: str
    """Fingerprint of the autoencoder, with the statistics of its own files."""

    @property
    def affine(self) -> Affine:
        """Affine that gives each channel mean 0 and standard deviation 1.

        Raises:
            ValueError: a number is not finite, a standard deviation is not positive, or their
                counts differ.
        """
        if len(self.mean) != len(self.std):
            raise ValueError(
                f"latent statistics have {len(self.mean)} means and {len(self.std)} standard "
                "deviations; they must have one of each for each channel"
            )
        return Affine.from_statistics(torch.tensor(self.mean), torch.tensor(self.std))

    def rms(self, affine: Affine) -> float:
        """Root mean square, over all channels, of these latents normalised by an affine."""
        mean, std = torch.tensor(self.mean).double(), torch.tensor(self.std).double()
        shift, scale = affine.shift.flatten().double(), affine.scale.flatten().double()
        return float((((mean - shift) ** 2 + std**2) / scale**2).mean().sqrt())


def statistics_from_affine(affine: Affine, autoencoder: str) -> LatentStatistics:
    """Statistics from the affine that weights were trained with."""
    mean, std = (tuple(x.flatten().tolist()) for x in (affine.shift, affine.scale))
    return LatentStatistics(mean=mean, std=std, images=0, autoencoder=autoencoder)


class LatentSums:
    """Sums over raw latents, in float64 on the CPU, in the order of added batches.

    The resulting variance is that of a posterior sample: the variance of the means plus the mean
    of the variances.
    """

    def __init__(self) -> None:
        self._total = torch.zeros(3, 1, dtype=torch.float64)
        self._places = self._images = 0

    def add(self, moments: Moments) -> None:
        """Add a batch; sizes of batches may differ."""
        mean = moments.mean.double().cpu()
        std = torch.zeros_like(mean) if moments.std is None else moments.std.double().cpu()
        self._total = self._total + torch.stack(
            [x.sum((0, 2, 3)) for x in (mean, mean**2, std**2)]
        )
        self._places += mean[:, 0].numel()
        self._images += len(mean)

    def statistics(self, autoencoder: str) -> LatentStatistics:
        """Statistics of all added batches.

        Args:
            autoencoder: fingerprint of the autoencoder.

        Raises:
            ValueError: no images, numbers that are not finite, or a constant channel.
        """
        first, varies, noise = self._mean_and_variances()
        _check_channels(first, varies, first**2 + varies + noise, self._images)
        return LatentStatistics(
            mean=tuple(first.float().tolist()),
            std=tuple((varies + noise).sqrt().float().tolist()),
            images=self._images,
            autoencoder=autoencoder,
        )

    def affine(self) -> Affine:
        """Affine of all added batches, also of channels whose means are constant.

        Raises:
            ValueError: no images, or a channel without any variance.
        """
        first, varies, noise = self._mean_and_variances()
        return Affine.from_statistics(first, (varies + noise).sqrt())

    def _mean_and_variances(self) -> tuple[Tensor, Tensor, Tensor]:
        """For each channel: the mean, the variance of the means, and the mean of the variances."""
        if not self._places:
            raise ValueError("latent statistics need at least one image")
        first, second, noise = self._total / self._places
        return first, second - first**2, noise


def latent_statistics(batches: Iterable[Moments], autoencoder: str) -> LatentStatistics:
    """Statistics of batches; see :class:`LatentSums`."""
    sums = LatentSums()
    for moments in batches:
        sums.add(moments)
    return sums.statistics(autoencoder)


def _check_channels(
    mean: Float[Tensor, " channels"],
    varies: Float[Tensor, " channels"],
    square: Float[Tensor, " channels"],
    images: int,
) -> None:
    """Check that all channels are finite and not constant."""
    for channel, (shift, variance, mean_square) in enumerate(
        zip(mean.tolist(), varies.tolist(), square.tolist(), strict=True)
    ):
        finite = all(map(math.isfinite, (shift, variance, mean_square)))
        if finite and variance > CONSTANT * mean_square:
            continue
        reason = "is constant" if finite else "has values that are not finite"
        raise ValueError(
            f"latents cannot be normalised by measured statistics: channel {channel} of "
            f"{len(mean)} {reason} in {images} images (mean {shift:g}, variance of the means "
            f"{variance:g}). Give different images, or --autoencoder.normalisation weights"
        )


WHITE = 255


@torch.no_grad()
def measure_affine(network: AutoencoderKL | RepresentationNetwork, batches: ImageStream) -> Affine:
    """Mean and standard deviation of each raw latent channel over images and positions; see
    :class:`LatentSums`.

    Raises:
        ValueError: no images.
    """
    device, kind, sums = next(network.parameters()).device, network_kind(network), LatentSums()
    for images in batches:
        sums.add(encode_raw(network, kind, to_pixels(images.to(device))))
    return sums.affine()


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
