# SPDX-License-Identifier: Apache-2.0
import json
import math

import pytest
import torch

from pippin.evaluation.measure import (
    Jackknife,
    Measure,
    bootstrap_means,
    mean_measure,
    percentile_interval,
)
from pippin.evaluation.metric import MetricKind


def measure_of(values: torch.Tensor, name: str = "loss") -> Measure:
    kind = MetricKind(name=name, description="", better="lower")
    return mean_measure(kind(), values, seed=3)


def test_bootstrap_interval_has_the_width_of_the_standard_error():
    values = torch.randn(400, generator=torch.Generator().manual_seed(0))
    measure = measure_of(values)
    assert measure.low is not None and measure.high is not None
    expected = 2 * 1.96 * float(values.std()) / math.sqrt(400)
    assert measure.high - measure.low == pytest.approx(expected, rel=0.1)
    assert measure.low < measure.value < measure.high
    assert measure.n == 400 and measure.interval_over == "samples"


def test_bootstrap_covers_the_true_mean_about_95_times_in_100():
    draws = torch.randn(60, 50, generator=torch.Generator().manual_seed(1))
    hits = 0
    for trial, values in enumerate(draws):
        low, high = percentile_interval(bootstrap_means(values, trial, "coverage"))
        hits += low <= 0 <= high
    assert 50 <= hits <= 60  # 57 expected; below 50 has probability 1e-3


def test_resamples_depend_on_seed_and_purpose_only():
    values = torch.arange(20.0)
    first = bootstrap_means(values, 0, "a")
    assert torch.equal(first, bootstrap_means(values, 0, "a"))
    assert not torch.equal(first, bootstrap_means(values, 1, "a"))
    assert not torch.equal(first, bootstrap_means(values, 0, "b"))


def test_jackknife_of_a_mean_is_its_standard_error():
    values = torch.randn(30, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    result = Jackknife(value=float(values.mean()), leave_one_out=(values.sum() - values) / 29)
    low, high = result.interval()
    assert high - low == pytest.approx(2 * 1.959964 * float(values.std()) / math.sqrt(30))


def test_jackknife_interval_is_cut_at_the_bounds():
    result = Jackknife(value=0.9, leave_one_out=torch.linspace(0.5, 1, 10))
    assert result.interval(0, 1)[1] == 1
    assert result.interval()[1] > 1


def test_a_value_that_is_not_finite_has_no_interval_and_becomes_null():
    measure = measure_of(torch.tensor([1.0, float("nan"), 2.0]))
    assert math.isnan(measure.value) and measure.low is None and measure.interval_over == "none"
    record = json.loads(json.dumps(measure.to_dict(), allow_nan=False))
    assert record["value"] is None and record["n"] == 3


def test_one_sample_has_no_interval():
    assert measure_of(torch.tensor([2.0])).low is None


def test_record_is_json_and_complete():
    record = json.loads(json.dumps(measure_of(torch.arange(5.0)).to_dict(), allow_nan=False))
    assert record["protocol"] == {"seed": 3} and record["subject"] == "arm"
    assert set(record) == set(Measure.__dataclass_fields__)
