# SPDX-License-Identifier: Apache-2.0
"""Interval of a proportion. Imports no torch."""

import math

NORMAL_95 = 1.959963984540054
"""Half-width of a 95 % interval in standard errors."""


def wilson_interval(share: float, count: int) -> tuple[float, float]:
    """95 % score interval of a proportion (Wilson 1927).

    Args:
        share: observed proportion, 0 to 1.
        count: number of observations.
    """
    z = NORMAL_95**2 / count
    centre = (share + z / 2) / (1 + z)
    half = math.sqrt(share * (1 - share) * z + z * z / 4) / (1 + z)
    return max(0.0, centre - half), min(1.0, centre + half)
