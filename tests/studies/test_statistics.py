# SPDX-License-Identifier: Apache-2.0
"""Intervals agree with SciPy's."""

from pathlib import Path
from statistics import stdev

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from pippin.studies.statistics import over_seeds, paired, t_quantile

VALUES = st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=12)


@pytest.mark.parametrize("freedom", [1, 2, 3, 4, 5, 8, 9, 30, 101])
@pytest.mark.parametrize("probability", [0.05, 0.6, 0.975, 0.9975, 0.99999])
def test_t_quantile(freedom, probability):
    expected = stats.t.ppf(probability, freedom)
    assert t_quantile(probability, freedom) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(("probability", "freedom"), [(0.0, 3), (1.0, 3), (0.5, 0)])
def test_t_quantile_refuses(probability, freedom):
    with pytest.raises(ValueError, match="freedom >= 1"):
        t_quantile(probability, freedom)


@settings(max_examples=25, deadline=None)
@given(VALUES)
def test_interval_of_a_mean(values):
    found = over_seeds(dict(enumerate(values)))
    if found.half_width < 1e-9:
        return
    low, high = stats.t.interval(
        0.95, len(values) - 1, loc=sum(values) / len(values), scale=stats.sem(values)
    )
    assert (found.low, found.high) == pytest.approx((low, high), rel=1e-6, abs=1e-6)


def test_paired_difference_is_scipys_paired_test():
    first, second = [1.0, 2.0, 4.0, 4.5], [1.5, 2.1, 4.9, 4.6]
    found = paired(dict(enumerate(first)), {3: 4.6, 2: 4.9, 1: 2.1, 0: 1.5, 9: 99.0})
    test = stats.ttest_rel(second, first)
    interval = test.confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high), rel=1e-9)
    assert found.count == 4


def test_the_widths_that_the_documentation_states():
    page = (Path(__file__).parents[2] / "docs/reference/studies.md").read_text(encoding="utf-8")
    _, _, table = page.partition("| comparisons | 3 seeds | 5 seeds | 8 seeds |\n")
    lines = [line.strip("| ").split(" | ") for line in table.split("\n\n")[0].splitlines()[1:]]
    assert [line[0] for line in lines] == ["1", "3", "9", "17"]
    for comparisons, *said in lines:
        for count, width in zip((3, 5, 8), said, strict=True):
            values = {seed: float(seed) for seed in range(count)}
            found = over_seeds(values, 1 - 0.05 / int(comparisons)).half_width
            digits = len(width.partition(".")[2])
            assert f"{found / stdev(values.values()):.{digits}f}" == width


def test_what_gives_no_interval():
    assert over_seeds({7: 3.0}).half_width is None
    assert paired({0: 1.0}, {1: 1.0}) is None
