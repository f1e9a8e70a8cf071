# SPDX-License-Identifier: Apache-2.0
"""Controls that are tied to the class by a dial: the copula of ``data/size.py`` for any draw.

A control is drawn from a uniform number u. With r the control's dial, z_k the score of the image's
class and Phi the standard normal distribution function, u becomes

    Phi(r z_k + sqrt(1 - r^2) Phi^-1(u))

which stays uniform over images and has correlation r, as a normal number, with the class score. At
r = 0 it is u itself, to the last bit. All dials share the scores, so two controls with dials r and
s have correlation r s with each other.
"""

import math
from dataclasses import dataclass, field
from statistics import NormalDist
from typing import Literal, Protocol, runtime_checkable

from pippin.data.config import CorrelationConfig

Dial = Literal["flip", "crop", "brightness", "jpeg", "grain"]
EDGE = 1e-9
"""Uniform numbers are kept so far from 0 and 1, whose normal quantiles are infinite."""


def tied_normal(correlation: float, class_score: float, own: float) -> float:
    """r z_k + sqrt(1 - r^2) z_i: a standard normal number tied to a class."""
    return correlation * class_score + math.sqrt(1 - correlation**2) * own


@dataclass(frozen=True, kw_only=True)
class Tie:
    """What joins one image's controls to its class."""

    score: float = 0.0
    """z_k, of :func:`pippin.data.size.class_scores`."""
    dials: CorrelationConfig = field(default_factory=CorrelationConfig)

    def __call__(self, dial: Dial, uniform: float) -> float:
        """The uniform number that a control is drawn from, in the place of its own."""
        correlation: float = getattr(self.dials, dial)
        if correlation == 0:
            return uniform
        own = NormalDist().inv_cdf(min(max(uniform, EDGE), 1 - EDGE))
        return NormalDist().cdf(tied_normal(correlation, self.score, own))


FREE = Tie()
"""Controls that know nothing of the class."""


@runtime_checkable
class TiedSource(Protocol):
    """A source whose controls may depend on the class."""

    def tie(self, index: int) -> Tie:
        """What joins the controls of one image to its class."""
        ...
