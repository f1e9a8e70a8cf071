# SPDX-License-Identifier: Apache-2.0
"""Measured numbers with intervals and protocols, and the construction of intervals.

Every interval here covers the sampling of images (or of held-out images) for one trained model.
None covers the variation over training seeds: that takes several trainings.
"""

import math
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from pippin.evaluation.metric import Better, Metric
from pippin.evaluation.metric_registry import find_metric
from pippin.evaluation.proportion import NORMAL_95
from pippin.rng import generator

IntervalOver = Literal["samples", "subsets", "none"]
Subject = Literal["arm", "untrained", "real"]

RESAMPLES = 1000
"""Number of bootstrap resamples per interval."""
CELLS = 2**22
"""Number of resampled values in memory at once."""


@dataclass(frozen=True, kw_only=True)
class Measure:
    """One metric value with interval, unit and protocol."""

    name: str
    """Name of the metric, :attr:`pippin.evaluation.metric.Metric.name`."""
    value: float
    """Not finite if the model returned non-finite numbers."""
    low: float | None
    high: float | None
    """95 % interval; None = no interval."""
    interval_over: IntervalOver
    """samples: other samples of the same model; subsets: the spread of one subset's estimate."""
    n: int
    """Number of measured images (or pairs) of the subject."""
    unit: str
    better: Better
    subject: Subject = "arm"
    """Trained model (arm), untrained weights, or real images measured instead of samples."""
    protocol: dict[str, Any] = field(default_factory=dict)
    """Settings that can change the number, as JSON values."""

    @classmethod
    def of(
        cls,
        metric: Metric,
        value: float,
        *,
        low: float | None = None,
        high: float | None = None,
        interval_over: IntervalOver = "none",
        n: int,
        unit: str | None = None,
        subject: Subject = "arm",
        protocol: dict[str, Any] | None = None,
    ) -> "Measure":
        """A value of a metric, with the metric's name, unit and direction.

        Args:
            metric: the measured metric.
            value: its value; the other arguments are the fields of this class.
            low, high: 95 % interval.
            interval_over: resampled units of the interval.
            n: number of measured images.
            unit: unit of the value where it depends on files; None = the metric's.
            subject: whose images were measured.
            protocol: settings that can change the number.
        """
        return cls(
            name=metric.name,
            value=value,
            low=low,
            high=high,
            interval_over=interval_over,
            n=n,
            unit=metric.unit if unit is None else unit,
            better=metric.better,
            subject=subject,
            protocol=protocol or {},
        )

    @property
    def metric(self) -> Metric:
        """The metric of the name."""
        return find_metric(self.name)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; non-finite numbers become None."""
        values = asdict(self)
        return values | {name: _finite(values[name]) for name in ("value", "low", "high")}


@dataclass(frozen=True, kw_only=True)
class Jackknife:
    """Statistic of n samples, and its n leave-one-out values."""

    value: float
    leave_one_out: Float[Tensor, " n"]

    def interval(
        self, lowest: float = -math.inf, highest: float = math.inf
    ) -> tuple[float, float]:
        """95 % interval from the jackknife's standard error (Efron & Stein 1981).

        On average that standard error is not too small, for any statistic. The interval is clipped
        to the bounds of the statistic.
        """
        values = self.leave_one_out.double()
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


def percentile_interval(values: Float[Tensor, " n"]) -> tuple[float, float]:
    """Percentile interval: the 2.5 % and 97.5 % quantiles."""
    low, high = torch.quantile(values.double(), torch.tensor([0.025, 0.975]).double()).tolist()
    return low, high


def mean_measure(
    metric: Metric,
    values: Float[Tensor, " n"],
    *,
    seed: int,
    unit: str | None = None,
    subject: Subject = "arm",
    protocol: dict[str, Any] | None = None,
) -> Measure:
    """Mean of per-sample values with a percentile bootstrap interval over the samples.

    There is no interval if a value, and so the mean, is not finite, nor for a single sample.
    Without ``unit``, the metric's own is taken.
    """
    low: float | None = None
    high: float | None = None
    value = float(values.double().mean())
    if math.isfinite(value) and len(values) > 1:
        low, high = percentile_interval(bootstrap_means(values, seed, metric.name))
    return Measure.of(
        metric,
        value,
        low=low,
        high=high,
        interval_over="samples" if low is not None else "none",
        n=len(values),
        unit=unit,
        subject=subject,
        protocol={"seed": seed} | (protocol or {}),
    )


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
