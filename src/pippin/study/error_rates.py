# SPDX-License-Identifier: Apache-2.0
"""How often verdicts are wrong: simulated studies with a known truth, evaluated as real ones are.

The value of an arm at a seed is its true mean, plus what all arms share at that seed, plus noise
of its own; both are normal. Nothing is trained.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from pippin.study.contrast_verdict import contrast_results
from pippin.study.contrasts import Contrast, Prediction, difference, interaction, main_effect
from pippin.study.verdict import Series

METRIC = "number"
SQUARE = {
    f"{first}{second}": {"first": first, "second": second}
    for first in ("low", "high")
    for second in ("low", "high")
}
"""A 2 x 2 design: arm -> axis -> level."""


@dataclass(frozen=True, kw_only=True)
class Design:
    """A study without its numbers."""

    name: str
    arms: tuple[str, ...]
    contrasts: tuple[Contrast, ...]
    """Of the one metric :data:`METRIC`; all of them primary."""

    def true_values(self, means: Mapping[str, float]) -> list[float]:
        """Each contrast's value where arms have these true means; an absent one is 0."""
        return [
            sum(term.weight * means.get(term.arm, 0.0) for term in one.terms)
            for one in self.contrasts
        ]

    def spreads(self, noise: float) -> list[float]:
        """Each contrast's standard deviation over seeds, where the arms' own noise has this."""
        return [
            noise * float(np.linalg.norm([term.weight for term in one.terms]))
            for one in self.contrasts
        ]


@dataclass(frozen=True, kw_only=True)
class Rate:
    """A share of simulated studies with its 95 % interval (Wilson 1927)."""

    count: int
    total: int

    @property
    def value(self) -> float:
        """The share."""
        return self.count / self.total

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's score interval."""
        z, n, p = 1.959963984540054, self.total, self.value
        middle = (p + z * z / (2 * n)) / (1 + z * z / n)
        half = z / (1 + z * z / n) * float(np.sqrt(p * (1 - p) / n + z * z / (4 * n * n)))
        return middle - half, middle + half


def designs(predicted: Prediction = "open", smallest_effect: float | None = None) -> list[Design]:
    """One difference, three differences from one arm, and a 2 x 2 by main effects."""
    said = {"claim": "-", "predicted": predicted, "smallest_effect": smallest_effect}
    arms = ("a", "b", "c", "d")
    against = [difference("a", arm, METRIC, name=arm, **said) for arm in arms[1:]]
    effects = [
        main_effect(SQUARE, axis, "low", "high", METRIC, name=axis, **said)
        for axis in ("first", "second")
    ]
    both = interaction(
        SQUARE, ("first", "low", "high"), ("second", "low", "high"), METRIC, name="both", **said
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
) -> list[list[str]]:
    """The verdicts of simulated studies.

    Args:
        design: what every study declares.
        seeds: training seeds of each study.
        studies: how many are simulated.
        means: true mean of arms; an absent one is 0.
        noise: standard deviation of each arm's own noise.
        seed: of the numbers drawn.

    Returns:
        One list for each study: the verdicts of its contrasts, in their order.
    """
    draw = np.random.default_rng(seed)
    truth = np.array([(means or {}).get(arm, 0.0) for arm in design.arms])
    shape = (studies, seeds, len(design.arms))
    values = truth + noise * draw.normal(size=shape) + draw.normal(size=(studies, seeds, 1))
    return [_verdicts(design, one) for one in values]


def any_rate(verdicts: list[list[str]], verdict: str, among: list[int] | None = None) -> Rate:
    """The share of studies in which any contrast has a verdict.

    Args:
        verdicts: of :func:`simulated_verdicts`.
        verdict: such as "supported".
        among: which contrasts count, by place; None = all.
    """
    places = range(len(verdicts[0])) if among is None else among
    count = sum(any(one[place] == verdict for place in places) for one in verdicts)
    return Rate(count=count, total=len(verdicts))


def _verdicts(design: Design, values: np.ndarray) -> list[str]:
    """Verdicts of one study; values are (seeds, arms)."""
    series = {
        (arm, METRIC): Series(arm=arm, values=dict(enumerate(column)))
        for arm, column in zip(design.arms, values.T.tolist(), strict=True)
    }
    return [one.verdict for one in contrast_results(design.contrasts, series, {})]
