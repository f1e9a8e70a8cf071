# SPDX-License-Identifier: Apache-2.0
"""Claims follow from intervals, and nothing else is claimed."""

import pytest

from pippin.studies.statistics import paired
from pippin.studies.verdict import Series, compare

FIRST = Series(arm="a", values={0: 1.0, 1: 1.1, 2: 0.9, 3: 1.05})


def shifted(shifts, diverged=()):
    values = {seed: FIRST.values[seed] + shift for seed, shift in shifts.items()}
    return Series(arm="b", values=values, diverged=diverged)


SMALL = shifted({0: -0.10, 1: -0.11, 2: -0.09, 3: -0.10})


@pytest.mark.parametrize(
    ("second", "better", "effect", "status", "matters"),
    [
        (SMALL, "lower", None, "better", False),
        (SMALL, "higher", None, "worse", False),
        (SMALL, "neither", None, "different", False),
        (SMALL, "lower", 0.05, "better", True),
        (SMALL, "lower", 0.10, "better", False),
        (SMALL, "lower", 0.5, "same", False),
        (shifted({0: -0.2, 1: 0.2, 2: 0.1, 3: -0.1}), "lower", 0.05, "undecided", False),
        (shifted({0: -0.2, 1: 0.2, 2: 0.1, 3: -0.1}), "lower", 5.0, "same", False),
        (shifted({0: -0.1}), "lower", None, "undecided", False),
        (Series(arm="b", values={}), "lower", None, "undecided", False),
        (shifted({0: -0.1, 1: -0.1, 2: -0.11}, (3,)), "lower", None, "undecided", False),
    ],
)
def test_status(second, better, effect, status, matters):
    (found,) = compare([FIRST, second], better=better, smallest_effect=effect)
    assert (found.status, found.matters) == (status, matters)


def test_one_seed_says_that_the_interval_is_over_samples():
    (found,) = compare([FIRST, shifted({0: -0.1})], better="lower")
    assert "one training seed" in found.reason and "over samples only" in found.reason


def test_divergence_is_named():
    (found,) = compare([FIRST, shifted({0: -0.1, 1: -0.1}, (2, 3))], better="lower")
    assert "b diverged in 2 of 4 seeds" in found.reason


def test_undecided_includes_zero():
    (found,) = compare([FIRST, shifted({0: -0.2, 1: 0.2, 2: 0.1, 3: -0.1})], better="lower")
    assert "includes zero" in found.reason
    assert found.difference.low < 0 < found.difference.high


def test_several_arms_are_corrected():
    """Two comparisons: each at 97.5 %."""
    found = compare([FIRST, SMALL, SMALL], better="lower")
    assert len(found) == 2
    assert found[0].difference == paired(FIRST.values, SMALL.values, level=0.975)
    assert "97.5 % interval" in found[0].basis


def test_null_data_give_few_false_claims():
    """With no difference, about 5 % of 400 studies claim one; 10 % would be a fault."""
    import random

    draw = random.Random(0)
    claims = 0
    for _ in range(400):
        values = [{seed: draw.gauss(0, 1) for seed in range(4)} for _ in range(2)]
        series = [Series(arm=str(i), values=one) for i, one in enumerate(values)]
        claims += compare(series, better="lower")[0].status != "undecided"
    assert 5 <= claims <= 40


def test_seeds_in_which_a_number_is_missing_are_no_reason_to_leave_them_out():
    whole = Series(arm="a", values={0: 1.0, 1: 1.1, 2: 0.9})
    partly = Series(arm="b", values={0: 0.1, 1: 0.2}, absent=(2,))
    (found,) = compare([whole, partly], better="lower")
    assert found.status == "undecided"
    assert "b has no value of this metric in 1 of 3 seeds" in found.reason
