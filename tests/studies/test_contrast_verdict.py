# SPDX-License-Identifier: Apache-2.0
"""Verdicts on contrasts agree with SciPy's tests, intervals and an independent Holm."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from pippin.reports.report_data import open_source
from pippin.reports.tables.contrast_table import evaluate_contrasts
from pippin.studies.contrast_verdict import contrast_results
from pippin.studies.contrasts import ContrastTerm, difference
from pippin.studies.runner import run_study
from pippin.studies.statistics import holm
from pippin.studies.verdict import Series

A = {0: 1.0, 1: 1.1, 2: 0.9, 3: 1.05}


def drift(shift, spread=0.01, **declared):
    """A contrast b - a whose seed differences are around ``shift``."""
    said = {"name": "c", "claim": "b differs from a.", **declared}
    noise = (-1.0, 1.0, 0.5, -0.5)
    b = {seed: one + shift + spread * noise[seed] for seed, one in A.items()}
    means = {("a", "m"): Series(arm="a", values=A), ("b", "m"): Series(arm="b", values=b)}
    return contrast_results([difference("a", "b", "m", **said)], means, {})[0]


@pytest.mark.parametrize(
    ("shift", "predicted", "smallest", "verdict"),
    [
        (-0.1, "negative", None, "supported"),
        (-0.1, "negative", 0.05, "supported"),
        (-0.1, "negative", 0.1, "supported"),
        (-0.1, "negative", 0.5, "not supported"),  # beyond zero, and too small to matter
        (+0.1, "negative", None, "not supported"),
        (+0.1, "negative", 0.5, "not supported"),
        (0.0, "negative", None, "inconclusive"),
        (0.0, "negative", 0.001, "inconclusive"),
        (0.0, "negative", 0.5, "not supported"),
        (+0.1, "positive", 0.05, "supported"),
        (-0.1, "positive", 0.05, "not supported"),
        (0.0, "positive", 0.5, "not supported"),
        (0.0, "none", 0.5, "supported"),
        (0.1, "none", 0.5, "supported"),
        (0.1, "none", 0.05, "not supported"),
        (-0.1, "none", 0.05, "not supported"),
        (-0.1, "none", 0.1, "inconclusive"),
        (0.1, "open", None, "supported"),
        (0.1, "open", 0.5, "not supported"),
        (0.0, "open", None, "inconclusive"),
    ],
)
def test_verdict(shift, predicted, smallest, verdict):
    found = drift(shift, predicted=predicted, smallest_effect=smallest)
    assert found.verdict == verdict, found


@settings(max_examples=60, deadline=None)
@given(
    st.floats(-1, 1),
    st.floats(0.01, 1),
    st.sampled_from(["negative", "positive", "none", "open"]),
    st.floats(0.01, 1),
)
def test_one_contrast_is_decided_by_its_interval(shift, spread, predicted, small):
    """With a single primary contrast every verdict can be read off the 95 % interval."""
    found = drift(shift, spread, predicted=predicted, smallest_effect=small)
    low, high = found.estimate.low, found.estimate.high
    inside = -small < low and high < small
    refuted, shown = {
        "negative": (low > -small, high < 0),
        "positive": (high < small, low > 0),
        "none": (low > small or high < -small, inside),
        "open": (inside, low > 0 or high < 0),
    }[predicted]
    expected = "not supported" if refuted else "supported" if shown else "inconclusive"
    assert found.verdict == expected


def test_p_values_and_intervals_are_scipys():
    found = drift(-0.02, spread=0.02, predicted="open", smallest_effect=0.05)
    sums = np.array([-0.04, 0.0, -0.01, -0.03])
    test = stats.ttest_1samp(sums, 0)
    assert found.p == pytest.approx(test.pvalue, rel=1e-9)
    assert found.spread == pytest.approx(sums.std(ddof=1))
    interval = test.confidence_interval(0.95)
    assert (found.estimate.low, found.estimate.high) == pytest.approx(tuple(interval), rel=1e-9)
    one_sided = max(
        stats.ttest_1samp(sums, bound, alternative=side).pvalue
        for bound, side in ((-0.05, "greater"), (0.05, "less"))
    )
    assert found.p_against == pytest.approx(2 * one_sided, rel=1e-9)


def closed_holm(values):
    """Holm as the closed test of Bonferroni tests, by all subsets (Marcus et al. 1976)."""
    places = range(len(values))
    subsets = [[i for i in places if mask >> i & 1] for mask in range(1, 2 ** len(values))]
    return [
        min(1.0, max(len(one) * min(values[i] for i in one) for one in subsets if place in one))
        for place in places
    ]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=5))
def test_holm_is_the_closed_bonferroni_test(values):
    assert holm(values) == pytest.approx(closed_holm(values))


def _family(*shifts, roles=None):
    rng = np.random.default_rng(0)
    means, contrasts = {("a", "m"): Series(arm="a", values=dict.fromkeys(range(6), 0.0))}, []
    for place, shift in enumerate(shifts):
        values = dict(enumerate(shift + rng.normal(0, 1, 6)))
        means["b" + str(place), "m"] = Series(arm="b" + str(place), values=values)
        one = difference("a", "b" + str(place), "m", name=str(place), claim="It differs.")
        contrasts.append(replace(one, role=roles[place] if roles else "primary"))
    return contrast_results(contrasts, means, {})


def test_primary_contrasts_are_one_family():
    found = _family(1.2, 0.4, 9.0)
    assert [one.adjusted for one in found] == pytest.approx(holm([one.p for one in found]))
    assert found[0].adjusted > found[0].p


def test_other_roles_are_not_corrected_and_get_no_verdict():
    found = _family(9.0, 9.0, 9.0, roles=["primary", "secondary", "exploratory"])
    assert [one.verdict for one in found] == ["supported", "exploratory", "exploratory"]
    assert found[0].adjusted == found[0].p  # a family of one
    assert found[1].adjusted is None and found[1].p < 0.01
    assert "no verdict" in found[1].reason


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (Series(arm="b", values={0: 1.0, 1: 1.0}, diverged=(2, 3)), "diverged in 2 of 4 seeds"),
        (
            Series(arm="b", values={0: 1.0, 1: 1.0}, absent=(3,)),
            "no value of this metric in 1 of 3",
        ),
        (Series(arm="b", values={0: 1.0}), "one training seed"),
        (Series(arm="b", values={7: 1.0}), "No training seed has all"),
        (Series(arm="b", values={}), "m of b has not been measured yet"),
        (None, "m of b has not been measured yet"),
    ],
)
def test_what_obstructs_a_verdict(other, message):
    means = {("a", "m"): Series(arm="a", values=A)} | ({("b", "m"): other} if other else {})
    said = difference("a", "b", "m", name="c", claim="b is lower.", predicted="negative")
    (found,) = contrast_results([said], means, {})
    assert found.verdict == "inconclusive" and message in found.reason
    assert found.p is None and found.adjusted is None


def test_an_obstructed_contrast_keeps_its_place_in_the_family():
    means = {("a", "m"): Series(arm="a", values=A)}
    means["b", "m"] = Series(arm="b", values={s: v + 1 + 0.1 * s for s, v in A.items()})
    whole = difference("a", "b", "m", name="1", claim="b is higher.")
    lost = difference("a", "c", "m", name="2", claim="c is higher.")
    found = contrast_results([whole, lost], means, {})
    assert found[0].adjusted == pytest.approx(2 * found[0].p)


def test_only_seeds_with_every_term_count():
    means = {
        ("a", "m"): Series(arm="a", values=A),
        ("b", "m"): Series(arm="b", values={2: 5.0, 3: 6.0}),
    }
    (found,) = contrast_results(
        [difference("a", "b", "m", name="c", claim="It differs.")], means, {}
    )
    assert found.estimate.count == 2
    assert found.estimate.mean == pytest.approx(((5 - 0.9) + (6 - 1.05)) / 2)


def test_shares_of_real():
    terms = tuple(
        ContrastTerm(arm="a", metric=metric, weight=weight)
        for metric, weight in (("late", 1.0), ("early", -1.0))
    )
    said = replace(
        difference("a", "b", "m", name="c", claim="Late acts more."),
        terms=terms,
        scale="share of real",
    )
    means = {
        ("a", "late"): Series(arm="a", values={0: 1.0, 1: 2.0}),
        ("a", "early"): Series(arm="a", values={0: 30.0, 1: 30.0}),
    }
    (found,) = contrast_results([said], means, {"late": 2.0, "early": 60.0})
    assert found.estimate.mean == pytest.approx((0.5 + 1.0) / 2 - 0.5)
    (found,) = contrast_results([said], means, {"late": 2.0, "early": -60.0})
    assert found.estimate is None  # dividing would turn the sign
    (found,) = contrast_results([said], means, {"late": 2.0})
    assert "early has no value of real images" in found.reason and found.estimate is None


def test_equal_numbers_in_all_seeds_leave_no_doubt():
    assert drift(-0.1, spread=0.0, predicted="negative").verdict == "supported"
    assert drift(0.0, spread=0.0, predicted="open").verdict == "inconclusive"


def test_contrasts_of_a_folder(study, execute, tmp_path):
    """Drift falls by 0.02 + 0.001 seed: the interval is known."""
    first, second = study.arms()
    said = {"claim": "Disentangling lowers drift.", "predicted": "negative"}
    declared = (
        difference(first, second, "drift", name="drift", **said, smallest_effect=0.005),
        difference(
            first,
            second,
            "effect",
            name="effect",
            claim="It acts.",
            role="secondary",
            scale="share of real",
        ),
    )
    run_study(replace(study, contrasts=declared), tmp_path, execute, lambda text: None)
    drift_result, effect_result = evaluate_contrasts(open_source(tmp_path))
    assert drift_result.verdict == "supported"
    assert drift_result.estimate.mean == pytest.approx(-0.021)
    assert "beyond the smallest effect" in drift_result.reason
    assert "no value of real images" in effect_result.reason  # the fixture measures none
