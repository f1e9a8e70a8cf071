# SPDX-License-Identifier: Apache-2.0
"""Statistics of raw latents over a sample of images, for the normalisation of a run."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from pippin.config import Config
from pippin.encoders.affine import Affine
from pippin.types import Moments

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
            ValueError: a number is not finite, or a standard deviation is not positive.
        """
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
        mean, std = moments.mean.double().cpu(), moments.std.double().cpu()
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
        if not self._places:
            raise ValueError("latent statistics need at least one image")
        first, second, noise = self._total / self._places
        varies = second - first**2
        _check_channels(first, varies, second + noise, self._images)
        return LatentStatistics(
            mean=tuple(first.float().tolist()),
            std=tuple((varies + noise).sqrt().float().tolist()),
            images=self._images,
            autoencoder=autoencoder,
        )


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
