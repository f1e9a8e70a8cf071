# SPDX-License-Identifier: Apache-2.0
"""Vertex of known parabolas of distances, exact and under noise."""

import pytest
import torch

from pippin.evaluation.measure import Jackknife
from pippin.evaluation.runs.best_scale import fitted_scale

SCALES = (1.0, 1.5, 2.0, 2.5, 3.0, 4.0)


def means(values):
    """Jackknife of the mean of each column of (images, scales)."""
    n = len(values)
    total = values.sum(0)
    return [
        Jackknife(value=float(total[k] / n), leave_one_out=(total[k] - values[:, k]) / (n - 1))
        for k in range(values.shape[1])
    ]


def images(noise, count=400, best=2.3, bend=1.0):
    draws = torch.Generator().manual_seed(0)
    scales = torch.tensor(SCALES, dtype=torch.float64)
    each = best + noise * torch.randn(count, 1, dtype=torch.float64, generator=draws)
    return bend * (scales - each).square()


def test_an_exact_parabola_gives_its_vertex():
    value, low, high = fitted_scale(SCALES, means(images(0.0)), seed=0)
    assert value == pytest.approx(2.3, abs=1e-9)
    assert low == pytest.approx(2.3, abs=1e-9) and high == pytest.approx(2.3, abs=1e-9)


def test_the_interval_is_that_of_the_mean_where_every_image_has_a_best_scale_of_its_own():
    value, low, high = fitted_scale(SCALES, means(images(0.5)), seed=0)
    error = 0.5 / 400**0.5
    assert value == pytest.approx(2.3, abs=3 * error)
    assert (high - low) / 2 == pytest.approx(1.96 * error, rel=0.15)  # 1000 resamples


def test_distances_that_only_fall_or_only_bend_down_have_no_best_scale():
    assert fitted_scale(SCALES, means(images(0.1, best=9.0)), seed=0) is None
    assert fitted_scale(SCALES, means(images(0.1, best=0.0)), seed=0) is None
    assert fitted_scale(SCALES, means(images(0.1, bend=-1.0)), seed=0) is None


def test_a_fit_needs_five_scales_and_equal_images():
    whole = means(images(0.1))
    with pytest.raises(ValueError, match=r"5 scales or more.*got 4"):
        fitted_scale(SCALES[:4], whole[:4], seed=0)
    with pytest.raises(ValueError, match=r"over \[399, 400\] images"):
        fitted_scale(SCALES, [*whole[:5], means(images(0.1, count=399))[5]], seed=0)
