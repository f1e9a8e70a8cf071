# SPDX-License-Identifier: Apache-2.0
"""Statistics of raw latents over a sample of images, which can normalise the latents of a run."""

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
"""A channel is constant where the variance of its means is a smaller share of its mean square:
that is what float32 leaves of equal numbers."""


@dataclass(frozen=True, kw_only=True)
class LatentStatistics(Config):
    """Mean and standard deviation of each channel of posterior samples, before normalisation."""

    mean: tuple[float, ...]
    std: tuple[float, ...]
    images: int
    """Of the sample; 0 where the numbers came with weights that a run started from."""
    autoencoder: str
    """Fingerprint of the autoencoder, with the numbers of its own files."""

    @property
    def affine(self) -> Affine:
        """What gives each channel mean 0 and deviation 1.

        Raises:
            ValueError: a number is not finite, or a deviation is not positive.
        """
        return Affine.from_statistics(torch.tensor(self.mean), torch.tensor(self.std))

    def rms(self, affine: Affine) -> float:
        """Root mean square, over all channels, of these latents normalised by an affine."""
        mean, std = torch.tensor(self.mean).double(), torch.tensor(self.std).double()
        shift, scale = affine.shift.flatten().double(), affine.scale.flatten().double()
        return float((((mean - shift) ** 2 + std**2) / scale**2).mean().sqrt())


def taken_over(affine: Affine, autoencoder: str) -> LatentStatistics:
    """The numbers of an affine, as those that weights were trained with."""
    mean, std = (tuple(x.flatten().tolist()) for x in (affine.shift, affine.scale))
    return LatentStatistics(mean=mean, std=std, images=0, autoencoder=autoencoder)


class LatentSums:
    """Sums over raw latents, in float64 on the CPU, in the order in which batches are added.

    The variance that they give is that of a posterior sample: the variance of the means plus the
    mean of the variances.
    """

    def __init__(self) -> None:
        self._total = torch.zeros(3, 1, dtype=torch.float64)
        self._places = self._images = 0

    def add(self, moments: Moments) -> None:
        """Count a batch; sizes of batches may differ."""
        mean, std = moments.mean.double().cpu(), moments.std.double().cpu()
        self._total = self._total + torch.stack(
            [x.sum((0, 2, 3)) for x in (mean, mean**2, std**2)]
        )
        self._places += mean[:, 0].numel()
        self._images += len(mean)

    def statistics(self, autoencoder: str) -> LatentStatistics:
        """Of all that was added.

        Args:
            autoencoder: fingerprint of what encoded it.

        Raises:
            ValueError: no images, numbers that are not finite, or a channel that is constant.
        """
        if not self._places:
            raise ValueError("statistics of latents need at least one image")
        first, second, noise = self._total / self._places
        varies = second - first**2
        _refuse(first, varies, second + noise, self._images)
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


def _refuse(
    mean: Float[Tensor, " channels"],
    varies: Float[Tensor, " channels"],
    square: Float[Tensor, " channels"],
    images: int,
) -> None:
    """Refuse channels that no division makes usable."""
    for channel, (shift, variance, whole) in enumerate(
        zip(mean.tolist(), varies.tolist(), square.tolist(), strict=True)
    ):
        finite = all(map(math.isfinite, (shift, variance, whole)))
        if finite and variance > CONSTANT * whole:
            continue
        why = "is the same everywhere" if finite else "has numbers that are not finite"
        raise ValueError(
            f"latents cannot be normalised by measured numbers: channel {channel} of {len(mean)} "
            f"{why} in {images} images (mean {shift:g}, variance of the means {variance:g}). Give "
            "images that differ, or --autoencoder.normalisation weights"
        )
