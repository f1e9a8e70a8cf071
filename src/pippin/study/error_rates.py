# SPDX-License-Identifier: Apache-2.0
"""Error rates of verdicts, from simulated studies with known true means.

The value of an arm at a seed is its true mean, plus an effect that all arms share at that seed,
plus noise of the arm; both are normal. Verdicts are made as in real studies. Nothing is trained.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

from pippin.study.contrast_verdict import decide, p_values
from pippin.study.contrasts import Contrast, Prediction, difference, interaction, main_effect
from pippin.study.statistics import LEVEL, holm

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
        interval = binomtest(self.count, self.total).proportion_ci(LEVEL, method="wilson")
        return float(interval.low), float(interval.high)


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
