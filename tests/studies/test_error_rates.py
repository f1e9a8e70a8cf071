# SPDX-License-Identifier: Apache-2.0
"""Known-answer studies: verdicts are wrong as seldom, and right as often, as theory says."""

import math

import pytest
from scipy import stats

from pippin.studies.contrast_verdict import contrast_results
from pippin.studies.contrasts import difference
from pippin.studies.power import (
    METRIC,
    Rate,
    any_rate,
    contrast_power,
    designs,
    power_of_difference,
    power_of_no_difference,
    seeds_needed,
    simulated_values,
    simulated_verdicts,
)
from pippin.studies.verdict import Series

STUDIES = 8000
ONE, THREE, SQUARE = range(3)


@pytest.mark.parametrize("place", [ONE, THREE, SQUARE])
@pytest.mark.parametrize("predicted", ["open", "negative", "positive", "none"])
def test_simulated_studies_are_decided_as_real_ones(place, predicted):
    """Equal verdicts from the same numbers by the way that a folder's results take."""
    design = designs(predicted, smallest_effect=1.0)[place]
    told = {"seeds": 6, "studies": 12, "means": {design.arms[-1]: 2.0}, "noise": 0.4, "seed": 3}
    values, verdicts = simulated_values(design, **told), simulated_verdicts(design, **told)
    for numbers, expected in zip(values, verdicts, strict=True):
        means = {
            (arm, METRIC): Series(arm=arm, values=dict(enumerate(column)))
            for arm, column in zip(design.arms, numbers.T.tolist(), strict=True)
        }
        results = contrast_results(design.contrasts, means, {})
        assert [one.verdict for one in results] == expected.tolist()


def allowed(rate):
    """Three standard errors above a rate."""
    return rate + 3 * math.sqrt(rate * (1 - rate) / STUDIES)


def near(rate):
    """Within three and a half standard errors of a rate; seeds are fixed."""
    return pytest.approx(rate, abs=3.5 * math.sqrt(rate * (1 - rate) / STUDIES))


@pytest.mark.parametrize("place", [ONE, THREE, SQUARE])
@pytest.mark.parametrize("predicted", ["open", "negative"])
def test_false_supported_claims_of_a_family_stay_below_five_percent(place, predicted):
    design = designs(predicted)[place]
    rate = any_rate(simulated_verdicts(design, seeds=5, studies=STUDIES, seed=place), "supported")
    assert rate.value <= allowed(0.05)
    assert rate.value >= 0.01  # not because nothing is ever supported
    if place == ONE:  # exact: both tails of an open claim, one tail of a directed one
        assert rate.value == near(0.05 if predicted == "open" else 0.025)


def test_without_correction_a_family_would_claim_too_often():
    """The reason for Holm: three unadjusted comparisons have too many false claims."""
    design = designs()[THREE]
    single = [
        any_rate(simulated_verdicts(one, seeds=5, studies=STUDIES, seed=1), "supported").count
        for one in [
            type(design)(name="", arms=design.arms, contrasts=(each,)) for each in design.contrasts
        ]
    ]
    family = any_rate(simulated_verdicts(design, seeds=5, studies=STUDIES, seed=1), "supported")
    assert sum(single) / STUDIES == pytest.approx(0.15, abs=0.03) and family.value < 0.06


@pytest.mark.parametrize("place", [ONE, THREE, SQUARE])
def test_false_claims_of_no_difference_stay_below_five_percent(place):
    """The true differences are exactly as large as matters: the worst case."""
    design = designs("none", smallest_effect=2.0)[place]
    means = {"b": 2.0, "c": 2.0, "d": 2.0, "highlow": 2.0, "highhigh": 4.0, "lowlow": 0.0}
    means["lowhigh"] = 2.0 if place != SQUARE else 0.0  # main effects 3 and 1, interaction 2
    wrong = [i for i, value in enumerate(design.true_values(means)) if abs(value) >= 2]
    verdicts = simulated_verdicts(design, seeds=8, studies=STUDIES, means=means, seed=7)
    assert wrong and any_rate(verdicts, "supported", wrong).value <= allowed(0.05)


@pytest.mark.parametrize("place", [ONE, THREE, SQUARE])
def test_false_refutations_stay_below_five_percent(place):
    """Every claim is true, and by no more than matters."""
    design = designs("positive", smallest_effect=1.0)[place]
    means = {"b": 1.0, "c": 1.0, "d": 1.0}
    means |= {"lowlow": 0.0, "highlow": 0.5, "lowhigh": 0.5, "highhigh": 2.0}
    assert design.true_values(means) == pytest.approx([1.0] * len(design.contrasts))
    verdicts = simulated_verdicts(design, seeds=6, studies=STUDIES, means=means, seed=11)
    assert any_rate(verdicts, "not supported").value <= allowed(0.05)


@pytest.mark.parametrize(("seeds", "effect"), [(4, 3.0), (8, 1.8), (12, 1.0)])
def test_power_of_one_difference_is_noncentral_t(seeds, effect):
    design = designs("positive")[ONE]
    (spread,) = design.spreads(1.0)
    verdicts = simulated_verdicts(design, seeds=seeds, studies=STUDIES, means={"b": effect})
    limit = stats.t.ppf(0.975, seeds - 1)
    expected = stats.nct.sf(limit, seeds - 1, math.sqrt(seeds) * effect / math.sqrt(2))
    assert power_of_difference(effect, spread, seeds) == pytest.approx(expected, rel=1e-6)
    assert any_rate(verdicts, "supported").value == near(expected)


@pytest.mark.parametrize(("seeds", "spread"), [(5, 0.3), (8, 1.5)])
def test_power_at_the_smallest_effect_leaves_out_what_is_shown_to_be_smaller(seeds, spread):
    """With little noise one study in forty shows a true effect to be smaller than it is."""
    design = designs("positive", smallest_effect=1.0)[ONE]
    noise = spread / math.sqrt(2)
    verdicts = simulated_verdicts(
        design, seeds=seeds, studies=STUDIES, means={"b": 1.0}, noise=noise
    )
    expected = contrast_power(design.contrasts[0], spread, seeds)
    assert expected < 0.976
    assert any_rate(verdicts, "supported").value == near(expected)


def test_power_of_no_difference():
    design = designs("none", smallest_effect=2.0)[ONE]
    expected = power_of_no_difference(2.0, design.spreads(1.0)[0], 8)
    verdicts = simulated_verdicts(design, seeds=8, studies=STUDIES)
    assert 0.3 < expected < 0.95
    assert any_rate(verdicts, "supported").value == near(expected)


def test_power_in_a_family_lies_between_its_bounds():
    """Holm: never below Bonferroni's level, never above that of one comparison."""
    design = designs("positive")[THREE]
    verdicts = simulated_verdicts(design, seeds=6, studies=STUDIES, means={"b": 2.0})
    found = any_rate(verdicts, "supported", [0]).value
    low, high = (power_of_difference(2.0, math.sqrt(2), 6, 1 - 0.05 / k) for k in (3, 1))
    slack = 3 * math.sqrt(0.25 / STUDIES)
    assert low - slack <= found <= high + slack and low < high - 2 * slack


def test_a_main_effect_of_two_by_two_has_more_power_than_a_pair():
    """In units of an arm's spread its own is 1, a pair's sqrt(2), the interaction's 2."""
    design = designs("positive")[SQUARE]
    assert design.spreads(1.0) == pytest.approx([1.0, 1.0, 2.0])
    only = type(design)(name="", arms=design.arms, contrasts=design.contrasts[:1])
    means = {"highlow": 1.5, "highhigh": 1.5}
    verdicts = simulated_verdicts(only, seeds=5, studies=STUDIES, means=means, seed=3)
    expected = power_of_difference(1.5, 1.0, 5)
    assert any_rate(verdicts, "supported").value == near(expected)
    assert expected > power_of_difference(1.5, math.sqrt(2), 5) + 0.2


def test_power_of_an_interaction():
    design = designs("positive")[SQUARE]
    only = type(design)(name="", arms=design.arms, contrasts=design.contrasts[2:])
    verdicts = simulated_verdicts(only, seeds=6, studies=STUDIES, means={"highhigh": 2.5}, seed=5)
    assert any_rate(verdicts, "supported").value == near(power_of_difference(2.5, 2.0, 6))


def test_seeds_needed_are_the_first_that_suffice():
    said = difference(
        "a", "b", "m", name="c", claim="-", predicted="negative", smallest_effect=1.0
    )
    for family in (1, 3):
        count = seeds_needed(said, 1.2, 0.8, family)
        assert contrast_power(said, 1.2, count, family) >= 0.8
        assert contrast_power(said, 1.2, count - 1, family) < 0.8
    assert seeds_needed(said, 1000.0) is None


def test_power_refuses_what_has_none():
    with pytest.raises(ValueError, match="2 seeds or more"):
        power_of_difference(1.0, 1.0, 1)
    assert contrast_power(difference("a", "b", "m", name="c", claim="-"), 1.0, 5) is None


def test_the_interval_is_wilsons():
    """Each end p is one at which the observed share is 1.96 standard errors away."""
    rate = Rate(count=37, total=2000)
    low, high = rate.interval
    assert low < rate.value < high
    for p in (low, high):
        assert abs(rate.value - p) / math.sqrt(p * (1 - p) / 2000) == pytest.approx(1.959963984540)
