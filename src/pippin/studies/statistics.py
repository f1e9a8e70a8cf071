# SPDX-License-Identifier: Apache-2.0
"""Means over seeds and paired differences with Student-t intervals, and their digits.

With n seeds the mean's interval is  mean +- t(n - 1) s / sqrt(n),  s the sample standard deviation
(denominator n - 1). A difference between two arms is taken seed by seed first, so that effects
that both arms share at one seed (initial weights, data order, noise) cancel.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from statistics import fmean, stdev

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special


def number(value: float, spread: float | None = None) -> str:
    """A value up to the second digit of its spread; up to 4 digits without a spread.

    Millions have a suffix: ``2.358 M``.
    """
    size = max(abs(value), abs(spread or 0.0))
    if 1e6 <= size < 1e12:
        return f"{number(value / 1e6, spread / 1e6 if spread else None)}\N{NO-BREAK SPACE}M"
    if size != 0 and not 1e-4 <= size < 1e6:
        return f"{value:.2e}"
    text = f"{value:.{_decimals(value, spread)}f}"
    return text if spread or "." not in text else text.rstrip("0").rstrip(".")


def signed(value: float, spread: float | None = None, plus: str = "+") -> str:
    """Like :func:`number`, with a sign (U+2212 for minus)."""
    text = number(abs(value), spread)
    return f"\N{MINUS SIGN}{text}" if value < 0 else f"{plus}{text}"


def roughly(value: float) -> str:
    """Two digits with a sign: for a difference of unknown precision."""
    return signed(value, abs(value))


def plus_minus(value: float, spread: float, plus: str = "") -> str:
    """``0.412 ± 0.016``, with no-break spaces."""
    if spread <= 1e-9 * abs(value):  # rounding of equal numbers
        spread = 0.0
    text = f"{signed(value, spread, plus)} ± {number(spread, spread)}"
    return text.replace(" ", "\N{NO-BREAK SPACE}")


def _decimals(value: float, spread: float | None) -> int:
    scale, digits = (spread, 2) if spread else (abs(value), 4)
    if not scale:
        return 3
    return min(max(digits - 1 - math.floor(math.log10(scale)), 0), 6)


FloatArray = NDArray[np.float64]

LEVEL = 0.95
"""Confidence level of every interval, unless a verdict corrects it for several comparisons."""


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A mean with its interval and the source of the variation."""

    mean: float
    low: float | None
    high: float | None
    """None if the data give no interval."""
    count: int
    """Number of seeds."""
    over: str
    """Source of the variation: "seeds", or the units that a measurement resamples ("samples")."""

    @property
    def half_width(self) -> float | None:
        """Half the interval's length."""
        return None if self.low is None or self.high is None else (self.high - self.low) / 2


def over_seeds(values: Mapping[int, float], level: float = LEVEL) -> Estimate:
    """The mean of one value per seed; no interval with a single seed."""
    numbers = list(values.values())
    mean = fmean(numbers)
    if len(numbers) < 2:
        return Estimate(mean=mean, low=None, high=None, count=1, over="seeds")
    half = t_quantile((1 + level) / 2, len(numbers) - 1) * stdev(numbers) / math.sqrt(len(numbers))
    return Estimate(mean=mean, low=mean - half, high=mean + half, count=len(numbers), over="seeds")


def paired(
    first: Mapping[int, float], second: Mapping[int, float], level: float = LEVEL
) -> Estimate | None:
    """The paired difference second - first over common seeds; None without a common seed."""
    common = [seed for seed in first if seed in second]
    if not common:
        return None
    return over_seeds({seed: second[seed] - first[seed] for seed in common}, level)


@cache
def t_quantile(probability: float, freedom: int) -> float:
    """The quantile of Student's t.

    Raises:
        ValueError: probability outside (0, 1) or freedom below 1.
    """
    if not 0 < probability < 1 or freedom < 1:
        raise ValueError(
            f"need 0 < probability < 1 and freedom >= 1; got {probability}, {freedom}"
        )
    return float(special.stdtrit(freedom, probability))


def tail(distance: ArrayLike, error: ArrayLike, freedom: int) -> FloatArray:
    """P(T > distance / error), T of Student's t: one-sided p-values.

    Args:
        distance: from the null value to the estimate, in the direction of the alternative.
        error: standard error of the estimate, same shape; 0 if all seeds have the same value, and
            then the p-value is 0 for a distance above 0.
        freedom: degrees of freedom.
    """
    distances, errors = np.asarray(distance, float), np.asarray(error, float)
    certain = np.where(distances > 0, 0.0, 1.0)
    p_values = special.stdtr(freedom, -distances / np.where(errors == 0, 1.0, errors))
    return np.where(errors == 0, certain, p_values)


def holm(values: ArrayLike) -> FloatArray:
    """P-values adjusted by Holm's step-down (Holm 1979, Scand. J. Statist. 6, 65-70).

    Comparing each with 0.05 keeps the probability of any false rejection in the family below 5 %,
    whatever the dependence between the tests.

    Args:
        values: (..., tests), each row the p-values of one family.

    Returns:
        The adjusted p-values, same shape.
    """
    p_values = np.asarray(values, float)
    order = np.argsort(p_values, axis=-1, kind="stable")
    count = p_values.shape[-1]
    steps = (count - np.arange(count)) * np.take_along_axis(p_values, order, -1)
    adjusted = np.empty_like(p_values)
    monotone = np.maximum.accumulate(np.minimum(steps, 1.0), axis=-1)
    np.put_along_axis(adjusted, order, monotone, -1)
    return adjusted
