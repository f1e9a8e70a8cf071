# SPDX-License-Identifier: Apache-2.0
"""The law of original sizes: log-uniform, and tied to the class by a dial.

A Gaussian copula joins class and size. With r the dial, class k has a score z_k, picture i a
standard normal number z_i of its own, and

    z = r z_k + sqrt(1 - r^2) z_i        u = Phi(z)        side = smallest (largest / smallest)^u

Phi is the standard normal distribution function, so at r = 0 u is uniform and independent of the
class; at r = 1 the class alone decides it. The scores are normal quantiles at the middle of each
class's share of the pictures, in the order of class ids, scaled to mean 0 and variance 1 over
pictures. Then z has mean 0 and variance 1 for every r, r is the correlation of z with the class
score, and u stays as nearly uniform as a sum with a discrete part allows (at r = 1 it takes one
value for each class).
"""

import math
from collections.abc import Sequence
from statistics import NormalDist

from pippin.control import Size
from pippin.data.config import SizeLaw
from pippin.data.tie import tied_normal


def class_scores(counts: Sequence[int]) -> tuple[float, ...]:
    """z_k: increasing with the class id; mean 0 and variance 1 under ``counts``.

    Args:
        counts: pictures of each class, all positive. One class alone has the score 0.
    """
    total, before, raw = sum(counts), 0, []
    for count in counts:
        raw.append(NormalDist().inv_cdf((before + count / 2) / total))
        before += count
    mean = sum(n * z for n, z in zip(counts, raw, strict=True)) / total
    variance = sum(n * (z - mean) ** 2 for n, z in zip(counts, raw, strict=True)) / total
    return tuple((z - mean) / math.sqrt(variance or 1.0) for z in raw)


def original_size(law: SizeLaw, class_score: float, picture_score: float) -> Size:
    """The size of one picture, square, in pixels.

    Args:
        law: the range of sides and the dial r.
        class_score: z_k, of :func:`class_scores`.
        picture_score: z_i, a standard normal number of the picture's own.
    """
    z = tied_normal(law.class_correlation, class_score, picture_score)
    side = law.smallest * (law.largest / law.smallest) ** NormalDist().cdf(z)
    return Size(round(side), round(side))
