# SPDX-License-Identifier: Apache-2.0
"""Distribution of original sizes: log-uniform, with a class correlation.

A Gaussian copula joins class and size. With r the correlation, class k has a score z_k, image i an
independent standard normal number z_i, and

    z = r z_k + sqrt(1 - r^2) z_i        u = Phi(z)        side = smallest (largest / smallest)^u

Phi is the standard normal distribution function, so at r = 0 u is uniform and independent of the
class; at r = 1 the class determines it. The scores are normal quantiles at the middle of each
class's share of the images, in the order of class ids, scaled to mean 0 and variance 1 over
images. Then z has mean 0 and variance 1 for every r, r is the correlation of z with the class
score, and u is as close to uniform as a sum with a discrete term allows (at r = 1 it takes one
value for each class).
"""

import math
from collections.abc import Sequence
from statistics import NormalDist

from pippin.control import Size
from pippin.data.class_copula import correlated_normal
from pippin.data.config import OriginalSizeConfig


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
