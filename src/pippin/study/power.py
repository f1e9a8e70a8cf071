# SPDX-License-Identifier: Apache-2.0
"""The power of a contrast: the probability of "supported" if its claim is true.

With n seeds, a standard deviation sigma of the weighted sums over seeds and a true value delta,
sqrt(n) mean / s  is noncentral t with n - 1 degrees of freedom and noncentrality
sqrt(n) delta / sigma, so the power of a difference has a closed form. With a declared smallest
effect, a difference that is shown to be smaller is not supported: that power, and that of a claim
of no difference, is an integral over s.
"""

import math

import numpy as np
from numpy.typing import NDArray
from scipy import special

from pippin.study.contrasts import Contrast
from pippin.study.statistics import LEVEL, t_quantile

_POINTS = 4096
"""Number of points of the integral over s, at equal steps of probability."""
MAX_SEEDS = 1000
"""Largest number of seeds that :func:`seeds_needed` tries."""


def power_of_difference(
    effect: float,
    spread: float,
    seeds: int,
    level: float = LEVEL,
    smallest_effect: float = 0.0,
) -> float:
    """Probability that the whole interval lies beyond zero, on the side of the true effect, and
    not entirely below the smallest effect.

    Args:
        effect: the true value of the contrast; its sign does not matter.
        spread: standard deviation of the weighted sums over training seeds, same unit.
        seeds: number of seeds.
        level: confidence level of the two-sided interval.
        smallest_effect: same unit; 0 = none declared.

    Raises:
        ValueError: fewer than two seeds, or a spread that is not positive.
    """
    _refuse(spread, seeds)
    root, effect = math.sqrt(seeds), abs(effect)
    if not smallest_effect:
        limit = t_quantile((1 + level) / 2, seeds - 1)
        return float(1 - special.nctdtr(seeds - 1, root * effect / spread, limit))
    half = _half_widths(seeds, level)
    bound = np.maximum(half, smallest_effect / spread - half)
    return float(np.mean(special.ndtr(root * (effect / spread - bound))))


def power_of_no_difference(
    smallest_effect: float, spread: float, seeds: int, level: float = LEVEL
) -> float:
    """Probability that the interval lies inside +- the smallest effect if the true value is 0.

    Args and errors: as for :func:`power_of_difference`.
    """
    _refuse(spread, seeds)
    room = math.sqrt(seeds) * (smallest_effect / spread - _half_widths(seeds, level))
    return float(np.mean(np.maximum(2 * special.ndtr(room) - 1, 0.0)))


def _half_widths(seeds: int, level: float) -> NDArray[np.float64]:
    """Half-widths of the interval in units of sigma, at equally likely values of s."""
    shares = (np.arange(_POINTS) + 0.5) / _POINTS
    deviations = np.sqrt(special.chdtri(seeds - 1, 1 - shares) / (seeds - 1))  # s / sigma
    half_widths: NDArray[np.float64] = deviations * t_quantile((1 + level) / 2, seeds - 1)
    return half_widths / math.sqrt(seeds)


def contrast_power(contrast: Contrast, spread: float, seeds: int, family: int = 1) -> float | None:
    """The power of a contrast: at its smallest effect, or at 0 where no difference is predicted.

    Args:
        contrast: its prediction and smallest effect are used.
        spread: standard deviation over seeds, assumed or observed.
        seeds: number of seeds.
        family: number of primary contrasts; the level is 1 - 0.05 / family, at which Holm's
            step-down has at least this power.

    Returns:
        None for a contrast without a smallest effect.
    """
    if contrast.smallest_effect is None:
        return None
    level = 1 - (1 - LEVEL) / family
    if contrast.predicted == "none":
        return power_of_no_difference(contrast.smallest_effect, spread, seeds, level)
    smallest = contrast.smallest_effect
    return power_of_difference(smallest, spread, seeds, level, smallest_effect=smallest)


def seeds_needed(
    contrast: Contrast, spread: float, power: float = 0.8, family: int = 1
) -> int | None:
    """The smallest number of seeds that reaches a power; None = no smallest effect, or more than
    :data:`MAX_SEEDS`."""
    if contrast.smallest_effect is None:
        return None
    low, high = 1, MAX_SEEDS  # low is too few, high enough
    if (contrast_power(contrast, spread, high, family) or 0.0) < power:
        return None
    while high - low > 1:
        middle = (low + high) // 2
        enough = (contrast_power(contrast, spread, middle, family) or 0.0) >= power
        low, high = (low, middle) if enough else (middle, high)
    return high


def _refuse(spread: float, seeds: int) -> None:
    if seeds < 2 or not 0 < spread < math.inf:
        raise ValueError(f"power needs 2 seeds or more and a spread > 0; got {seeds}, {spread}")
