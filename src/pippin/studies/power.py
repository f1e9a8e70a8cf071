# SPDX-License-Identifier: Apache-2.0
"""Power of a contrast, and error rates of verdicts from simulated studies.

The power is the probability of "supported" if the contrast's claim is true. With n seeds, a
standard deviation sigma of the weighted sums over seeds and a true value delta, sqrt(n) mean / s
is noncentral t with n - 1 degrees of freedom and noncentrality sqrt(n) delta / sigma, so the power
of a difference has a closed form. With a declared smallest effect, a difference that is shown to
be smaller is not supported: that power, and that of a claim of no difference, is an integral over
s.

Simulated studies have known true means. The value of an arm at a seed is its true mean, plus an
effect that all arms share at that seed, plus noise of the arm; both are normal. Verdicts are made
as in real studies. Nothing is trained.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

from pippin.evaluation.proportion import wilson_interval
from pippin.studies.contrast_verdict import decide, p_values
from pippin.studies.contrasts import Contrast, Prediction, difference, interaction, main_effect
from pippin.studies.statistics import LEVEL, holm, t_quantile

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
    """The smallest number of seeds that reaches a power.

    Args:
        contrast: its prediction and smallest effect are used.
        spread: standard deviation of the weighted sums over training seeds, in the unit of the
            contrast.
        power: probability to reach, between 0 and 1.
        family: number of primary contrasts; see :func:`contrast_power`.

    Returns:
        None for a contrast without a smallest effect, or where :data:`MAX_SEEDS` seeds do not
        suffice.

    Raises:
        ValueError: a spread that is not positive.
    """
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


METRIC = "number"
SQUARE = {
    f"{first}{second}": {"first": first, "second": second}
    for first in ("low", "high")
    for second in ("low", "high")
}
"""A 2 x 2 design: arm -> axis -> level."""


@dataclass(frozen=True, kw_only=True)
class Design:
    """The design of a study: arms and contrasts without measured values."""

    name: str
    arms: tuple[str, ...]
    contrasts: tuple[Contrast, ...]
    """Contrasts of the metric :data:`METRIC`; all of them primary."""

    def true_values(self, means: Mapping[str, float]) -> list[float]:
        """The true value of each contrast for these true means of arms; an absent mean is 0."""
        return [
            sum(term.weight * means.get(term.arm, 0.0) for term in contrast.terms)
            for contrast in self.contrasts
        ]

    def spreads(self, noise: float) -> list[float]:
        """The standard deviation of each contrast over seeds, for this one of the arms' noise."""
        return [
            noise * float(np.linalg.norm([term.weight for term in contrast.terms]))
            for contrast in self.contrasts
        ]


@dataclass(frozen=True, kw_only=True)
class Rate:
    """The share of simulated studies with an outcome and its 95 % interval (Wilson 1927)."""

    count: int
    total: int

    @property
    def value(self) -> float:
        """The share."""
        return self.count / self.total

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's score interval."""
        return wilson_interval(self.value, self.total)


def designs(predicted: Prediction = "open", smallest_effect: float | None = None) -> list[Design]:
    """One difference, three differences from one arm, and a 2 x 2 by main effects."""
    declared = {"claim": "-", "predicted": predicted, "smallest_effect": smallest_effect}
    arms = ("a", "b", "c", "d")
    against = [difference("a", arm, METRIC, name=arm, **declared) for arm in arms[1:]]
    effects = [
        main_effect(SQUARE, axis, "low", "high", METRIC, name=axis, **declared)
        for axis in ("first", "second")
    ]
    both = interaction(
        SQUARE,
        ("first", "low", "high"),
        ("second", "low", "high"),
        METRIC,
        name="both",
        **declared,
    )
    return [
        Design(name="one difference", arms=arms[:2], contrasts=(against[0],)),
        Design(name="three differences", arms=arms, contrasts=tuple(against)),
        Design(name="2 x 2: effects", arms=tuple(SQUARE), contrasts=(*effects, both)),
    ]


def simulated_verdicts(
    design: Design,
    *,
    seeds: int,
    studies: int,
    means: Mapping[str, float] | None = None,
    noise: float = 1.0,
    seed: int = 0,
) -> np.ndarray:
    """The verdicts of simulated studies.

    Args:
        design: the design of every study.
        seeds: number of training seeds of each study.
        studies: number of simulated studies.
        means: true mean of arms; an absent one is 0.
        noise: standard deviation of each arm's noise.
        seed: seed of the random numbers.

    Returns:
        (studies, contrasts): the verdicts.
    """
    values = simulated_values(
        design, seeds=seeds, studies=studies, means=means, noise=noise, seed=seed
    )
    weights = np.zeros((len(design.arms), len(design.contrasts)))
    for index, contrast in enumerate(design.contrasts):
        for term in contrast.terms:
            weights[design.arms.index(term.arm), index] += term.weight
    sums = values @ weights  # (studies, seeds, contrasts)
    mean, error = sums.mean(1), sums.std(1, ddof=1) / np.sqrt(seeds)
    tests = [
        p_values(contrast, mean[:, index], error[:, index], seeds - 1)
        for index, contrast in enumerate(design.contrasts)
    ]
    p, against = (np.stack(side, -1) for side in zip(*tests, strict=True))
    return decide(holm(p), holm(against))


def simulated_values(
    design: Design,
    *,
    seeds: int,
    studies: int,
    means: Mapping[str, float] | None = None,
    noise: float = 1.0,
    seed: int = 0,
) -> NDArray[np.float64]:
    """(studies, seeds, arms): the values of simulated studies.

    Args: as for :func:`simulated_verdicts`.
    """
    draw = np.random.default_rng(seed)
    truth = np.array([(means or {}).get(arm, 0.0) for arm in design.arms])
    own = draw.normal(size=(studies, seeds, len(design.arms)))
    return truth + noise * own + draw.normal(size=(studies, seeds, 1))


def any_rate(verdicts: np.ndarray, verdict: str, among: Sequence[int] | None = None) -> Rate:
    """The share of studies in which any contrast has a verdict.

    Args:
        verdicts: output of :func:`simulated_verdicts`.
        verdict: such as "supported".
        among: indices of the contrasts that count; None = all.
    """
    counted = verdicts if among is None else verdicts[:, list(among)]
    return Rate(count=int((counted == verdict).any(1).sum()), total=len(verdicts))
