# SPDX-License-Identifier: Apache-2.0
"""Rank correlations and their bootstrap intervals over training seeds.

Both correlations are 1 for equal orders and -1 for reversed ones. With R average ranks, Spearman's
rho is Pearson's correlation of the two R. Kendall's tau-b is the excess of pairs in the same order
over pairs in reversed order, as a share of the pairs that are tied in neither ranking (geometric
mean of both counts).

The interval resamples the seeds of every arm, computes the arms' means and correlates them again.
With few seeds plain percentiles are too narrow. The tails are therefore those of Hesterberg's
expanded percentile interval (2015, The American Statistician 69, 371-386), Phi(-q) with
q = t(n - 1) sqrt(n / (n - 1)). Each arm is resampled by itself, as if no two arms shared effects
of a seed. Effects that all methods of a ranking share change no order, and widen the interval.
Noise that a method shares between both rankings makes them agree by chance, and the interval takes
it for agreement: with two seeds it lies above 0 in up to a quarter of studies of equal methods
(``scripts/agreement_error_rates.py``).
"""

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from pippin.studies.statistics import LEVEL, FloatArray, t_quantile

Correlation = Callable[[ArrayLike, ArrayLike], FloatArray]
RESAMPLES = 10_000
SEED = 0
"""Seed of the resampling, so that a report can be repeated."""


def ranks(values: ArrayLike) -> FloatArray:
    """Average ranks from 1 = smallest.

    Args:
        values: (..., items).

    Returns:
        The ranks, same shape; tied items share the mean of their places.
    """
    items = np.asarray(values, float)
    below = (items[..., None, :] < items[..., :, None]).sum(-1)
    tied = (items[..., None, :] == items[..., :, None]).sum(-1)
    return np.asarray(below + (tied + 1) / 2)


def spearman(first: ArrayLike, second: ArrayLike) -> FloatArray:
    """Spearman's rho (Spearman 1904), with average ranks for ties.

    Args:
        first, second: (..., items), items in the same order.

    Returns:
        (...): the correlations; NaN where all items of one ranking are tied.
    """
    one, other = (ranks(values) - (np.shape(values)[-1] + 1) / 2 for values in (first, second))
    return _normalised(one, other)


def kendall(first: ArrayLike, second: ArrayLike) -> FloatArray:
    """Kendall's tau-b (Kendall 1945); arguments and result as of :func:`spearman`."""
    one, other = (_signs(values) for values in (first, second))
    return _normalised(one, other)


def _signs(values: ArrayLike) -> FloatArray:
    """(..., pairs): sign of the difference of each pair of items."""
    items = np.asarray(values, float)
    low, high = np.triu_indices(items.shape[-1], 1)
    signs: FloatArray = np.sign(items[..., high] - items[..., low])
    return signs


def _normalised(first: FloatArray, second: FloatArray) -> FloatArray:
    """Scalar product over the last dimension as a share of the norms; NaN where one is 0."""
    product = np.asarray((first * second).sum(-1))
    squares = np.asarray((first**2).sum(-1) * (second**2).sum(-1))
    constant = squares == 0
    return np.where(constant, np.nan, product / np.sqrt(np.where(constant, 1.0, squares)))


def resampling_weights(
    counts: Sequence[int], resamples: int = RESAMPLES, seed: int = SEED
) -> list[FloatArray]:
    """Share of each seed in each resample, arm by arm.

    Args:
        counts: number of seeds of each arm.
        resamples: number of resamples.
        seed: seed of the random numbers.

    Returns:
        For each arm (seeds, resamples); columns sum to 1.
    """
    draw = np.random.default_rng(seed)
    return [
        np.asarray(draw.multinomial(count, np.full(count, 1 / count), size=resamples).T / count)
        for count in counts
    ]


def interval(
    correlation: Correlation,
    first: Sequence[NDArray[np.float64]],
    second: Sequence[NDArray[np.float64]],
    *,
    resamples: int = RESAMPLES,
    seed: int = SEED,
    level: float = LEVEL,
) -> tuple[FloatArray, FloatArray]:
    """Bootstrap interval of the correlation of two rankings of the same items by their means.

    Args:
        correlation: :func:`spearman` or :func:`kendall`.
        first, second: for each item (..., seeds), its values; two seeds or more.
        resamples: number of resamples.
        seed: seed of the random numbers.
        level: confidence level.

    Returns:
        (...): lower and upper ends. A resample without an order counts as 0.

    Raises:
        ValueError: an item with fewer than two seeds.
    """
    arms = [*first, *second]
    counts = [arm.shape[-1] for arm in arms]
    if min(counts) < 2:
        raise ValueError(f"an interval over seeds needs two seeds or more; got {min(counts)}")
    weights = resampling_weights(counts, resamples, seed)
    means = np.stack([arm @ own for arm, own in zip(arms, weights, strict=True)], -1)
    values = correlation(means[..., : len(first)], means[..., len(first) :])
    tail = tail_share(min(counts), level)
    ordered = np.sort(np.nan_to_num(values), axis=-1)
    last = resamples - 1
    low, high = math.floor(tail * last), math.ceil((1 - tail) * last)
    return ordered[..., low], ordered[..., high]


def tail_share(count: int, level: float = LEVEL) -> float:
    """Share of resamples beyond each end of the expanded percentile interval.

    Args:
        count: number of seeds, at least two.
        level: confidence level.
    """
    quantile = t_quantile((1 + level) / 2, count - 1)
    return float(special.ndtr(-math.sqrt(count / (count - 1)) * quantile))
