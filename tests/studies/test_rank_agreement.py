# SPDX-License-Identifier: Apache-2.0
"""Rank correlations against closed forms and SciPy; verdicts on simulated studies."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from pippin.config import ConfigError
from pippin.studies.agreement import RankAgreement, Ranking, check_agreements
from pippin.studies.agreement_verdict import (
    agreement_power,
    agreement_result,
    judge,
    measured_rankings,
)
from pippin.studies.rank_correlation import interval, kendall, ranks, spearman, tail_share
from pippin.studies.verdict import Series

METHODS = ("a", "b", "c", "d", "e", "f")
CLAIM = RankAgreement(
    name="order",
    claim="Both orders agree.",
    methods=METHODS,
    first=Ranking(name="class", metric="held-out loss", arms=tuple(f"{m}1" for m in METHODS)),
    second=Ranking(name="text", metric="coverage", arms=tuple(f"{m}2" for m in METHODS)),
)
BETTER = {"held-out loss": "lower", "coverage": "higher"}


def measured(first, second):
    """Rankings from (methods, seeds) losses, and coverages."""
    values = [
        *zip(CLAIM.first.arms, first, strict=True),
        *zip(CLAIM.second.arms, second, strict=True),
    ]
    series = {
        (arm, CLAIM.first.metric if arm in CLAIM.first.arms else CLAIM.second.metric): Series(
            arm=arm, values=dict(enumerate(map(float, row)))
        )
        for arm, row in values
    }
    return series


def result(first, second, claim=CLAIM):
    return agreement_result(claim, measured_rankings(claim, measured(first, second), BETTER))


def test_ranks_correlate_as_in_closed_form():
    up, down = np.arange(5.0), -np.arange(5.0)
    for correlation in (spearman, kendall):
        assert correlation(up, up**3) == 1 and correlation(up, down) == -1
        assert np.isnan(correlation(up, np.zeros(5)))
    # One exchange of neighbours: 1 - 6 * 2 / (5 * 24), and 1 - 2 / 10.
    swapped = np.array([0.0, 1.0, 3.0, 2.0, 4.0])
    assert spearman(up, swapped) == pytest.approx(0.9)
    assert kendall(up, swapped) == pytest.approx(0.8)
    assert ranks([3.0, 1.0, 3.0, 0.0]).tolist() == [3.5, 2.0, 3.5, 1.0]


def test_correlations_equal_those_of_scipy_with_ties_too():
    draw = np.random.default_rng(0)
    first, second = draw.integers(0, 5, (40, 7)), draw.normal(size=(40, 7)).round(0)
    ours = spearman(first, second), kendall(first, second)
    for row, values in enumerate(zip(first, second, strict=True)):
        expected = stats.spearmanr(*values).statistic, stats.kendalltau(*values).statistic
        assert [one[row] for one in ours] == pytest.approx(expected, abs=1e-12, nan_ok=True)


def test_tails_are_those_of_student_s_t_and_go_to_those_of_the_percentiles():
    assert tail_share(5) == pytest.approx(stats.norm.cdf(-np.sqrt(5 / 4) * stats.t.ppf(0.975, 4)))
    assert tail_share(100_000) == pytest.approx(0.025, rel=1e-3)
    with pytest.raises(ValueError, match="two seeds or more; got 1"):
        interval(spearman, [np.ones(1)] * 3, [np.ones(1)] * 3)


def simulated(order, *, spacing, studies, seeds=5, seed=1):
    """For each method (studies, seeds), twice: neighbours are ``spacing`` deviations apart."""
    draw = np.random.default_rng(seed)
    return [
        [spacing * place + draw.normal(size=(studies, seeds)) for place in places]
        for places in (range(len(order)), order)
    ]


EQUAL = [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("order", [EQUAL, [1, 0, 3, 2, 5, 4], [3, 5, 1, 4, 0, 2]])
@pytest.mark.parametrize("spacing", [0.7, 2.0])
def test_the_interval_covers_the_true_correlation(order, spacing):
    """In 95 % of studies at least; three standard errors of 200 studies are 0.046."""
    truth = spearman(EQUAL, order) + 0.0
    low, high = interval(spearman, *simulated(order, spacing=spacing, studies=200), resamples=600)
    covers = (low <= truth + 1e-9) & (high >= truth - 1e-9)
    assert covers.mean() >= 0.95 - 0.046


def test_chance_gives_few_false_verdicts():
    """Neither supported without any true order, nor refuted where close methods have one order."""
    low, _ = interval(spearman, *simulated([0] * 6, spacing=0.0, studies=200), resamples=600)
    assert (low > 0).mean() <= 0.05
    _, high = interval(spearman, *simulated(EQUAL, spacing=0.3, studies=200), resamples=600)
    assert (high < 0.5).mean() <= 0.05


def test_noise_that_both_rankings_share_misleads_two_seeds_but_not_three():
    """Methods do not differ; that three seeds suffice is why a verdict needs them."""
    rates = []
    for seeds in (2, 3):
        noise, _ = simulated([0] * 6, spacing=0.0, studies=100, seeds=seeds)
        low, _ = interval(spearman, noise, noise, resamples=4000)
        rates.append((low > 0).mean())
    assert rates[0] > 0.1 and rates[1] <= 0.05


def test_more_distant_methods_are_more_often_shown_to_agree():
    powers = []
    for spacing in (0.1, 1.0, 4.0):
        first, second = simulated(EQUAL, spacing=spacing, studies=1)
        powers.append(agreement_power(np.concatenate(first), np.concatenate(second)))
    assert powers == sorted(powers) and powers[0] < 0.5 and powers[-1] == 1


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (0.6, 1.0, "supported"),
        (0.1, 0.9, "supported"),
        (0.0, 0.9, "inconclusive"),
        (-1.0, 0.4, "not supported"),
        (0.1, 0.4, "not supported"),
    ],
)
def test_verdicts_follow_from_the_interval(low, high, verdict):
    assert judge(low, high, 0.5)[0] == verdict


def test_an_agreement_that_is_shown_and_too_small_is_said_to_be_both():
    assert judge(0.1, 0.4, 0.5) == (
        "not supported",
        "The rankings agree, but the correlation is below the smallest that counts (0.5).",
    )
    assert "whole interval is below" in judge(-0.2, 0.4, 0.5)[1]


def test_methods_are_ranked_from_the_best_of_each_metric():
    draw = np.random.default_rng(0)
    losses = np.arange(6.0)[:, None] + 0.1 * draw.normal(size=(6, 5))
    found = result(losses, -losses)  # a low loss with a high coverage
    assert found.rankings[0].ranks == found.rankings[1].ranks == (1, 2, 3, 4, 5, 6)
    assert (found.rho.mean, found.rho.low, found.rho.high) == (1, 1, 1)
    assert found.verdict == "supported" and found.power == 1
    reversed_order = result(losses, losses)
    assert reversed_order.rho.mean == reversed_order.tau.mean == -1
    assert reversed_order.verdict == "not supported"
    secondary = result(losses, -losses, replace(CLAIM, role="secondary"))
    assert secondary.verdict == "exploratory"


def test_what_is_missing_or_has_diverged_gives_no_verdict():
    losses = np.arange(6.0)[:, None] + np.zeros((6, 5))
    series = measured(losses, -losses)
    key = ("c1", "held-out loss")
    series[key] = replace(series[key], values={0: 1.0}, diverged=(1, 2, 3, 4))
    found = agreement_result(CLAIM, measured_rankings(CLAIM, series, BETTER))
    assert found.verdict == "inconclusive" and "c1 diverged in 4 of 5 seeds" in found.reason
    del series[key]
    found = agreement_result(CLAIM, measured_rankings(CLAIM, series, BETTER))
    assert found.rho is None and "c1 has not been measured" in found.reason
    one_seed = result(losses[:, :1], -losses[:, :1])
    assert one_seed.rho.low is None and "one training seed" in one_seed.reason
    two_seeds = result(losses[:, :2], -losses[:, :2])
    assert two_seeds.verdict == "inconclusive" and two_seeds.power is None
    assert (two_seeds.rho.low, two_seeds.rho.high) == (1, 1)
    assert "needs 3 training seeds or more; there are 2" in two_seeds.reason
    assert result(losses[:, :3], -losses[:, :3]).verdict == "supported"
    neither = measured_rankings(CLAIM, measured(losses, losses), BETTER | {"coverage": "neither"})
    assert "no better direction" in agreement_result(CLAIM, neither).reason


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"methods": ("a", "b")}, "3 methods or more"),
        ({"methods": ("a",) * 6}, "different names"),
        ({"smallest_effect": 0.0}, "above 0, and 1 at most; got 0.0"),
        ({"claim": " "}, "a name and a claim"),
        ({"role": "secondary"}, "0 agreements are primary"),
        ({"first": replace(CLAIM.first, arms=("a1",))}, "one arm for each of 6 methods; got 1"),
        ({"first": replace(CLAIM.first, arms=("a1",) * 6)}, "names an arm twice"),
        ({"first": replace(CLAIM.first, arms=("x", *CLAIM.first.arms[1:]))}, "no arm 'x'"),
    ],
)
def test_what_cannot_be_evaluated_is_refused(changes, message):
    arms = [*CLAIM.first.arms, *CLAIM.second.arms]
    check_agreements([CLAIM], arms)
    with pytest.raises(ConfigError, match=message):
        check_agreements([replace(CLAIM, **changes)], arms)
