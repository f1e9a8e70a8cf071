# SPDX-License-Identifier: Apache-2.0
"""One measured number with its interval and its protocol, and how intervals are made.

Every interval here is about *which images were sampled* (or which held-out pictures were used)
from one trained model. None of them covers what another training seed would give: that takes
several trainings.
"""

import math
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from pippin.rng import generator

IntervalOver = Literal["samples", "subsets", "none"]
Better = Literal["lower", "higher", "neither"]
Subject = Literal["arm", "untrained", "real"]

NORMAL_95 = 1.959963984540054
"""Half-width of a 95 % interval in standard errors."""
RESAMPLES = 1000
"""Bootstrap resamples of one interval."""
CELLS = 2**22
"""Resampled values held in memory at once."""


@dataclass(frozen=True, kw_only=True)
class Measure:
    """One number, what it is, and how far it can be trusted."""

    name: str
    value: float
    """Not finite where the model returned numbers that are not."""
    low: float | None
    high: float | None
    """95 % interval; None where there is none."""
    interval_over: IntervalOver
    """samples: other samples of the same model; subsets: the spread of one subset's estimate."""
    n: int
    """How many images (pairs, pictures) of the subject were measured."""
    unit: str
    better: Better
    subject: Subject = "arm"
    """A trained model, untrained weights, or real pictures measured in the model's place."""
    protocol: dict[str, Any] = field(default_factory=dict)
    """All that can change the number, as JSON values."""

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; a number that is not finite becomes None."""
        values = asdict(self)
        return values | {name: _finite(values[name]) for name in ("value", "low", "high")}


@dataclass(frozen=True, kw_only=True)
class Jackknife:
    """A statistic of n samples, and its values with each one of them left out."""

    value: float
    left_out: Float[Tensor, " n"]

    def interval(
        self, lowest: float = -math.inf, highest: float = math.inf
    ) -> tuple[float, float]:
        """A 95 % interval from the jackknife's standard error (Efron & Stein 1981).

        On average that standard error is not too small, whatever the statistic. The interval is
        cut at the bounds of the statistic.
        """
        values = self.left_out.double()
        n = len(values)
        error = math.sqrt((n - 1) / n * float((values - values.mean()).square().sum()))
        low, high = self.value - NORMAL_95 * error, self.value + NORMAL_95 * error
        return max(low, lowest), min(high, highest)


def bootstrap_means(
    values: Float[Tensor, " n"], seed: int, purpose: str
) -> Float[Tensor, " resamples"]:
    """Means of resamples of the values, drawn with replacement (Efron 1979), in float64."""
    draws, n = generator("subset", seed, "bootstrap", purpose), len(values)
    values, rows = values.double().cpu(), max(1, CELLS // n)
    return torch.cat(
        [
            values[torch.randint(n, (min(rows, RESAMPLES - start), n), generator=draws)].mean(1)
            for start in range(0, RESAMPLES, rows)
        ]
    )


def middle(values: Float[Tensor, " n"]) -> tuple[float, float]:
    """The 2.5 % and 97.5 % quantiles."""
    low, high = torch.quantile(values.double(), torch.tensor([0.025, 0.975]).double()).tolist()
    return low, high


def mean_measure(
    name: str,
    values: Float[Tensor, " n"],
    *,
    seed: int,
    unit: str,
    better: Better,
    subject: Subject = "arm",
    protocol: dict[str, Any] | None = None,
) -> Measure:
    """The mean of per-sample values with a percentile bootstrap interval over the samples.

    Where a value is not finite neither is the mean, and there is no interval; nor is there one
    for a single sample.
    """
    low: float | None = None
    high: float | None = None
    value = float(values.double().mean())
    if math.isfinite(value) and len(values) > 1:
        low, high = middle(bootstrap_means(values, seed, name))
    return Measure(
        name=name,
        value=value,
        low=low,
        high=high,
        interval_over="samples" if low is not None else "none",
        n=len(values),
        unit=unit,
        better=better,
        subject=subject,
        protocol={"seed": seed} | (protocol or {}),
    )


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
