# SPDX-License-Identifier: Apache-2.0
"""Verdict on the declared agreement of two rankings.

Methods are ranked by their means over the training seeds that all arms of a ranking have. With
[low, high] the 95 % interval of Spearman's correlation and e the declared smallest effect:

    supported        low > 0:   the rankings agree
    not supported    high < e:  an agreement that counts is excluded
    inconclusive     neither, or fewer than three seeds

An interval that shows both, between 0 and e, is not supported, as for contrasts.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from pippin.evaluation.metric_registry import find_metric
from pippin.studies.agreement import RankAgreement, Ranking
from pippin.studies.claims import NO_COMMON_SEED, NOT_CORRECTED, Verdict, verdict_without_test
from pippin.studies.rank_correlation import Correlation, interval, kendall, ranks, spearman
from pippin.studies.statistics import Estimate, FloatArray
from pippin.studies.verdict import ONE_SEED, Series, metric_gap

MIN_SEEDS = 3
"""Fewest training seeds of a verdict. With two, an interval leaves out 0 too often where rankings
agree by noise that a method shares between them."""
STUDIES, RESAMPLES = 100, 1000
"""Simulated studies of a power, and resamples of each interval."""


@dataclass(frozen=True, kw_only=True)
class MeasuredRanking:
    """The values of one ranking."""

    ranking: Ranking
    series: tuple[Series, ...]
    """One for each method."""
    better: str
    """"lower" or "higher"; another value cannot be ranked."""

    @property
    def seeds(self) -> tuple[int, ...]:
        """Training seeds that all arms have."""
        common = set.intersection(*(set(one.values) for one in self.series))
        return tuple(sorted(common))

    @property
    def costs(self) -> FloatArray:
        """(methods, seeds): the values with a sign that makes smaller ones better."""
        values = [[one.values[seed] for seed in self.seeds] for one in self.series]
        return np.array(values, float) * (-1 if self.better == "higher" else 1)

    @property
    def ranks(self) -> tuple[float, ...]:
        """Rank of each method by its mean, 1 = best; empty without a common seed."""
        return tuple(ranks(self.costs.mean(1)).tolist()) if self.seeds else ()


@dataclass(frozen=True, kw_only=True)
class AgreementResult:
    """One declared agreement with its estimates and verdict."""

    agreement: RankAgreement
    rankings: tuple[MeasuredRanking, MeasuredRanking]
    verdict: Verdict
    reason: str
    """A sentence."""
    rho: Estimate | None = None
    """Spearman's correlation; None if it is not defined yet."""
    tau: Estimate | None = None
    """Kendall's tau-b."""

    @cached_property
    def power(self) -> float | None:
        """Chance of "supported" if the second ranking had the first one's order, by the means and
        spreads that were found; None with too few seeds for a verdict."""
        if self.rho is None or self.rho.count < MIN_SEEDS:
            return None
        first, second = self.rankings
        return agreement_power(first.costs, second.costs)


def agreement_result(
    agreement: RankAgreement, rankings: tuple[MeasuredRanking, MeasuredRanking]
) -> AgreementResult:
    """Evaluate one agreement; only a primary one gets a verdict.

    Args:
        agreement: the declared agreement.
        rankings: the values of its first and second ranking.
    """
    verdict = verdict_without_test(agreement.role)
    empty = AgreementResult(agreement=agreement, rankings=rankings, verdict=verdict, reason="")
    reason = next(filter(None, map(_obstacle, rankings)), "")
    if not all(one.seeds and one.better in ("lower", "higher") for one in rankings):
        return replace(empty, reason=reason or NO_COMMON_SEED)
    rho, tau = (_estimate(one, rankings) for one in (spearman, kendall))
    if rho is None or tau is None:
        return replace(empty, reason=reason or "All methods of a ranking have the same value.")
    measured = replace(empty, rho=rho, tau=tau, reason=reason)
    if rho.low is None or rho.high is None:
        return replace(measured, reason=reason or ONE_SEED)
    if reason or agreement.role != "primary":
        return replace(measured, reason=reason or NOT_CORRECTED)
    if rho.count < MIN_SEEDS:
        return replace(measured, reason=_too_few_seeds(rho.count))
    verdict, text = judge(rho.low, rho.high, agreement.smallest_effect)
    return replace(measured, verdict=verdict, reason=text)


def judge(low: float, high: float, smallest_effect: float) -> tuple[Verdict, str]:
    """Verdict and reason from the interval of the correlation."""
    matters = f"the smallest that counts as agreement ({smallest_effect:g})"
    if low > 0 and high < smallest_effect:
        return (
            "not supported",
            f"The rankings agree, but the correlation is below the smallest that counts "
            f"({smallest_effect:g}).",
        )
    if high < smallest_effect:
        return "not supported", f"The whole interval is below {matters}."
    if low <= 0:
        return "inconclusive", "The data agree with equal order, and with unrelated orders."
    if low >= smallest_effect:
        return "supported", f"The whole interval is at or above {matters}."
    return "supported", f"Whether it reaches {matters} is undecided."


def agreement_power(first: FloatArray, second: FloatArray) -> float:
    """Chance of "supported" in simulated studies whose two true orders are equal.

    The values of each arm are normal. The first ranking has the given means; the second has its
    own means in the order of the first. Standard deviations are those of the arms.

    Args:
        first, second: (methods, seeds), costs of the arms; two seeds or more.
    """
    draw = np.random.default_rng(0)
    order = np.argsort(np.argsort(first.mean(1)))
    means = first.mean(1), np.sort(second.mean(1))[order]
    simulated = [
        [
            mean + spread * draw.normal(size=(STUDIES, costs.shape[1]))
            for mean, spread in zip(centres, costs.std(1, ddof=1), strict=True)
        ]
        for centres, costs in zip(means, (first, second), strict=True)
    ]
    low, _ = interval(spearman, *simulated, resamples=RESAMPLES, seed=0)
    return float((low > 0).mean())


def measured_rankings(
    agreement: RankAgreement, means: Mapping[tuple[str, str], Series], better: Mapping[str, str]
) -> tuple[MeasuredRanking, MeasuredRanking]:
    """The rankings of an agreement from the values of arms.

    Args:
        agreement: the declared agreement.
        means: (arm, metric) -> values; an absent arm has none.
        better: metric -> its better direction; an absent one is not measured.
    """
    first, second = (
        MeasuredRanking(
            ranking=ranking,
            series=tuple(
                means.get((arm, ranking.metric), Series(arm=arm, values={}))
                for arm in ranking.arms
            ),
            better=better.get(ranking.metric, ""),
        )
        for ranking in (agreement.first, agreement.second)
    )
    return first, second


def _estimate(correlation: Correlation, rankings: Sequence[MeasuredRanking]) -> Estimate | None:
    """The correlation with its interval; None where one ranking is all ties."""
    first, second = (one.costs for one in rankings)
    value = float(correlation(first.mean(1), second.mean(1)))
    if np.isnan(value):
        return None
    count = min(first.shape[1], second.shape[1])
    if count < 2:
        return Estimate(mean=value, low=None, high=None, count=count, over="seeds")
    low, high = interval(correlation, [*first], [*second])
    return Estimate(mean=value, low=float(low), high=float(high), count=count, over="seeds")


def _obstacle(measured: MeasuredRanking) -> str:
    """Reason why no verdict is possible whatever the numbers are; empty if one is possible."""
    metric = measured.ranking.metric
    for one in measured.series:
        if reason := metric_gap(metric, one.arm, one):
            return reason
    if measured.better not in ("lower", "higher"):
        return f"{find_metric(metric).label} has no better direction, so it ranks nothing."
    return ""


def _too_few_seeds(count: int) -> str:
    return (
        f"A verdict on rankings needs {MIN_SEEDS} training seeds or more; there are {count}. With "
        "two, the interval excludes 0 too often where noise alone makes the rankings agree."
    )
