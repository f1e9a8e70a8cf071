# SPDX-License-Identifier: Apache-2.0
"""Original sizes and other draws with a correlation to the class, by a Gaussian copula.

A control is drawn from a uniform number u. With r the control's correlation, z_k the score of the
image's class and Phi the standard normal distribution function, u becomes

    Phi(r z_k + sqrt(1 - r^2) Phi^-1(u))

This number is uniform over images, and its normal quantile has correlation r with the class score.
At r = 0 it equals u bit for bit. All controls share the scores, so two controls with correlations
r and s have correlation r s with each other.

The scores are normal quantiles at the middle of each class's share of the images, in the order of
class ids, scaled to mean 0 and variance 1 over images.

The side of an original size is log-uniform. It uses an independent standard normal number z_i of
image i in place of Phi^-1(u):

    z = r z_k + sqrt(1 - r^2) z_i        u = Phi(z)        side = smallest (largest / smallest)^u

At r = 0 the side is independent of the class; at r = 1 the class determines it. z has mean 0 and
variance 1 for every r, r is the correlation of z with the class score, and u is as close to
uniform as a sum with a discrete term allows (at r = 1 it takes one value for each class).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import NormalDist
from typing import Literal, Protocol, runtime_checkable

from pippin.control import Size
from pippin.data.config import CorrelationConfig, OriginalSizeConfig

CorrelatedControl = Literal["flip", "crop", "brightness", "jpeg", "grain"]
MIN_PROBABILITY = 1e-9
"""Minimum distance of uniform numbers from 0 and 1, whose normal quantiles are infinite."""


def correlated_normal(correlation: float, class_score: float, own: float) -> float:
    """Standard normal number r z_k + sqrt(1 - r^2) z_i, correlated with the class score."""
    return correlation * class_score + math.sqrt(1 - correlation**2) * own


@dataclass(frozen=True, kw_only=True)
class ClassCopula:
    """Copula between the controls of one image and its class."""

    score: float = 0.0
    """Class score z_k; see :func:`pippin.data.views.size.class_scores`."""
    correlations: CorrelationConfig = field(default_factory=CorrelationConfig)

    def __call__(self, control: CorrelatedControl, uniform: float) -> float:
        """Map the uniform number of a control to the correlated one."""
        correlation: float = getattr(self.correlations, control)
        if correlation == 0:
            return uniform
        own = NormalDist().inv_cdf(min(max(uniform, MIN_PROBABILITY), 1 - MIN_PROBABILITY))
        return NormalDist().cdf(correlated_normal(correlation, self.score, own))


INDEPENDENT = ClassCopula()
"""Controls that are independent of the class."""


@runtime_checkable
class ClassCorrelatedSource(Protocol):
    """Source whose controls may depend on the class."""

    def class_copula(self, index: int) -> ClassCopula:
        """Copula between the controls of one image and its class."""
        ...


def class_scores(counts: Sequence[int]) -> tuple[float, ...]:
    """Scores z_k: increasing with the class id, with mean 0 and variance 1 under ``counts``.

    Args:
        counts: number of images of each class, all positive. A single class has the score 0.
    """
    total, num_before, raw = sum(counts), 0, []
    for count in counts:
        raw.append(NormalDist().inv_cdf((num_before + count / 2) / total))
        num_before += count
    mean = sum(n * z for n, z in zip(counts, raw, strict=True)) / total
    variance = sum(n * (z - mean) ** 2 for n, z in zip(counts, raw, strict=True)) / total
    return tuple((z - mean) / math.sqrt(variance or 1.0) for z in raw)


def original_size(config: OriginalSizeConfig, class_score: float, image_score: float) -> Size:
    """Size of one image, square, in pixels.

    Args:
        config: range of sides and correlation r.
        class_score: z_k; see :func:`class_scores`.
        image_score: z_i, the standard normal number of the image.
    """
    z = correlated_normal(config.class_correlation, class_score, image_score)
    side = config.smallest * (config.largest / config.smallest) ** NormalDist().cdf(z)
    return Size(round(side), round(side))
