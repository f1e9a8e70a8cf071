# SPDX-License-Identifier: Apache-2.0
"""Means over seeds and paired differences with Student-t intervals.

With n seeds the mean's interval is  mean +- t(n - 1) s / sqrt(n),  s the sample standard deviation
(denominator n - 1). A difference between two arms is taken seed by seed first: what both arms
share at one seed (initial weights, data order, noise) then cancels.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from statistics import fmean, stdev

LEVEL = 0.95
"""Confidence of every interval, unless a verdict corrects it for several comparisons."""


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A number with its interval and what the interval is over."""

    mean: float
    low: float | None
    high: float | None
    """None where the data give no interval."""
    count: int
    """How many seeds."""
    over: str
    """What varies inside the interval: "seeds", or what a measurement resamples ("samples")."""

    @property
    def half_width(self) -> float | None:
        """Half the interval's length."""
        return None if self.low is None or self.high is None else (self.high - self.low) / 2


def over_seeds(values: Mapping[int, float], level: float = LEVEL) -> Estimate:
    """The mean of one number per seed; no interval where there is only one seed."""
    numbers = list(values.values())
    mean = fmean(numbers)
    if len(numbers) < 2:
        return Estimate(mean=mean, low=None, high=None, count=1, over="seeds")
    half = t_quantile((1 + level) / 2, len(numbers) - 1) * stdev(numbers) / math.sqrt(len(numbers))
    return Estimate(mean=mean, low=mean - half, high=mean + half, count=len(numbers), over="seeds")


def paired(
    first: Mapping[int, float], second: Mapping[int, float], level: float = LEVEL
) -> Estimate | None:
    """second - first, seed by seed over the seeds that both have; None without a common seed."""
    common = [seed for seed in first if seed in second]
    if not common:
        return None
    return over_seeds({seed: second[seed] - first[seed] for seed in common}, level)


@cache
def t_quantile(probability: float, freedom: int) -> float:
    """The quantile of Student's t with an integer number of degrees of freedom.

    Bisection on the closed form of the distribution function; good to 1e-9 relative.

    Raises:
        ValueError: probability outside (0, 1) or freedom below 1.
    """
    if not 0 < probability < 1 or freedom < 1:
        raise ValueError(
            f"need 0 < probability < 1 and freedom >= 1; got {probability}, {freedom}"
        )
    if probability < 0.5:
        return -t_quantile(1 - probability, freedom)
    inside = 2 * probability - 1
    low, high = 0.0, math.pi / 2
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _central(middle, freedom) < inside else (low, middle)
    return math.sqrt(freedom) * math.tan((low + high) / 2)


def _central(theta: float, freedom: int) -> float:
    """P(|t| < sqrt(freedom) tan(theta)): Abramowitz & Stegun 1964, 26.7.3 and 26.7.4."""
    sine, cosine = math.sin(theta), math.cos(theta)
    odd = freedom % 2
    # Odd: cos + 2/3 cos^3 + (2 4)/(3 5) cos^5 ...; even: 1 + 1/2 cos^2 + (1 3)/(2 4) cos^4 ...
    term = cosine if odd else 1.0
    total = 0.0
    for power in range(2 + odd, freedom + 1, 2):
        total += term
        term *= (power - 1) / power * cosine**2
    if odd:
        return 2 / math.pi * (theta + sine * total)
    return sine * total
