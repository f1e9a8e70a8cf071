# SPDX-License-Identifier: Apache-2.0
"""The tables of declared agreements: one line for each claim, and the rank of each method."""

from dataclasses import dataclass

from pippin.evaluation.metric_registry import find_metric
from pippin.reports.report_source import Source
from pippin.reports.tables.contrast_table import TONES, ClaimLine
from pippin.reports.tables.results_table import series_of, split_by_protocol
from pippin.studies.agreement import RankAgreement, Ranking
from pippin.studies.agreement_verdict import (
    AgreementResult,
    MeasuredRanking,
    agreement_result,
    measured_rankings,
)
from pippin.studies.statistics import Estimate, number, over_seeds, plus_minus
from pippin.studies.verdict import Series

AGREEMENT_HEADS = ("claim", "Spearman", "Kendall", "smallest effect", "power", "verdict")
AGREEMENT_READING = (
    "Correlation of the methods' ranks by their means over seeds, with its 95 % bootstrap "
    "interval over training seeds: 1 = equal order, \N{MINUS SIGN}1 = reversed. The methods are "
    "fixed: the interval says nothing about others.",
    "Power: the chance of “supported” if the second ranking had the first one's order, by the "
    "means and spreads that were found.",
)
"""Notes that explain the table."""
_ABSENT = "\N{EN DASH}"


@dataclass(frozen=True, kw_only=True)
class RankTable:
    """Values and ranks of the methods in both rankings of an agreement."""

    title: str
    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    """Method, then value and rank in each ranking."""


def evaluate_agreements(source: Source) -> list[AgreementResult]:
    """Results of all declared agreements, in the declared order.

    For each ranking only rows of one protocol count. The two rankings may differ in protocol: only
    their orders are compared.
    """
    results = []
    for agreement in source.declaration.agreements:
        means: dict[tuple[str, str], Series] = {}
        better: dict[str, str] = {}
        for ranking in (agreement.first, agreement.second):
            rows = [
                row
                for row in source.results.rows
                if row.metric == ranking.metric
                and row.subject == "arm"
                and row.arm in ranking.arms
            ]
            main, _ = split_by_protocol(rows)
            better |= {row.metric: row.better for row in main}
            means |= {(arm, ranking.metric): series_of(source, arm, main) for arm in ranking.arms}
        results.append(agreement_result(agreement, measured_rankings(agreement, means, better)))
    return results


def agreement_lines(results: list[AgreementResult]) -> list[ClaimLine]:
    """One line for each evaluated agreement, in the given order."""
    return [
        ClaimLine(
            name=result.agreement.name,
            claim=result.agreement.claim,
            formula=_formula(result.agreement),
            cells=(
                correlation_text(result.rho),
                correlation_text(result.tau),
                number(result.agreement.smallest_effect),
                _power(result),
                result.verdict,
            ),
            reason=result.reason,
            tone=TONES[result.verdict],
        )
        for result in results
    ]


def _power(result: AgreementResult) -> str:
    """The power; a dash for agreements that are never supported."""
    if result.agreement.role != "primary" or result.power is None:
        return _ABSENT
    return f"{result.power:.2f}"


def correlation_text(estimate: Estimate | None) -> str:
    """``0.83 [0.26, 0.94] (5 seeds)``."""
    if estimate is None:
        return "not measured"
    if estimate.low is None or estimate.high is None:
        return f"{_two_digits(estimate.mean)} (one seed)"
    ends = ", ".join(map(_two_digits, (estimate.low, estimate.high)))
    return f"{_two_digits(estimate.mean)} [{ends}] ({estimate.count} seeds)"


def _two_digits(value: float) -> str:
    return f"{value + 0.0:.2f}".replace("-", "\N{MINUS SIGN}")


def _formula(agreement: RankAgreement) -> str:
    first, second = agreement.first, agreement.second
    if first.metric == second.metric:
        return f"{first.name} and {second.name}, both by {find_metric(first.metric).label}"
    return f"{_by(first)} and {_by(second)}"


def _by(ranking: Ranking) -> str:
    return f"{ranking.name} by {find_metric(ranking.metric).label}"


def rank_table(result: AgreementResult) -> RankTable:
    """Values and ranks of the methods, best of the first ranking first."""
    agreement = result.agreement
    columns = [_columns(one) for one in result.rankings]
    heads = [
        head
        for one in result.rankings
        for head in (_by(one.ranking), f"rank by {one.ranking.name}")
    ]
    order = range(len(agreement.methods))
    if places := result.rankings[0].ranks:
        order_by_place = sorted(order, key=lambda index: places[index])
    else:
        order_by_place = list(order)
    return RankTable(
        title=agreement.name,
        heads=("method", *heads),
        rows=tuple(
            (agreement.methods[index], *columns[0][index], *columns[1][index])
            for index in order_by_place
        ),
    )


def _columns(measured: MeasuredRanking) -> list[tuple[str, str]]:
    """Value and rank of each method."""
    if not measured.ranks:
        return [("not measured", _ABSENT)] * len(measured.series)
    texts = []
    for one, rank in zip(measured.series, measured.ranks, strict=True):
        estimate = over_seeds({seed: one.values[seed] for seed in measured.seeds})
        half = estimate.half_width
        value = number(estimate.mean) if half is None else plus_minus(estimate.mean, half)
        texts.append((value, f"{rank:g}"))
    return texts
