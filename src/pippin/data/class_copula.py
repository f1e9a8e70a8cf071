# SPDX-License-Identifier: Apache-2.0
"""Gaussian copula between class and controls: the copula of ``data/size.py`` for any draw.

A control is drawn from a uniform number u. With r the control's correlation, z_k the score of the
image's class and Phi the standard normal distribution function, u becomes

    Phi(r z_k + sqrt(1 - r^2) Phi^-1(u))

This number is uniform over images, and its normal quantile has correlation r with the class score.
At r = 0 it equals u bit for bit. All controls share the scores, so two controls with correlations
r and s have correlation r s with each other.
"""

import math
from dataclasses import dataclass, field
from statistics import NormalDist
from typing import Literal, Protocol, runtime_checkable

from pippin.data.config import CorrelationConfig

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
    """Class score z_k; see :func:`pippin.data.size.class_scores`."""
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
