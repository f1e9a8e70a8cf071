# SPDX-License-Identifier: Apache-2.0
"""Measures of latents in closed form."""

import pytest
import torch

from pippin.encoders.latent_measures import measure_latents_shape
from pippin.rng import normal, uniform


def test_white_noise():
    """Standard error of the kurtosis of n values: sqrt(24 / n) = 0.015 for each channel."""
    measures = measure_latents_shape(normal((100, 4, 32, 32), "noise", 0))
    assert measures.excess_kurtosis == pytest.approx(0, abs=0.03)
    assert measures.fine_share == pytest.approx(0.75, abs=0.01)
    assert measures.effective_channels == pytest.approx(4, abs=0.01)


def test_uniform_values_have_a_kurtosis_of_minus_six_fifths():
    measures = measure_latents_shape(uniform((100, 2, 32, 32), "noise", 0))
    assert measures.excess_kurtosis == pytest.approx(-1.2, abs=0.03)


def test_squares_of_one_value_are_coarse_and_equal_channels_count_once():
    coarse = normal((10, 1, 8, 8), "noise", 0).repeat_interleave(2, 2).repeat_interleave(2, 3)
    measures = measure_latents_shape(torch.cat([coarse, 3 * coarse, -coarse], dim=1))
    assert measures.fine_share == pytest.approx(0, abs=1e-9)
    assert measures.effective_channels == pytest.approx(1, abs=1e-9)


def test_a_weak_channel_counts_less():
    """Variances 1 and 1/4: (5/4)^2 / (1 + 1/16) = 25/17."""
    values = normal((100, 2, 32, 32), "noise", 0) * torch.tensor([1.0, 0.5])[:, None, None]
    assert measure_latents_shape(values).effective_channels == pytest.approx(25 / 17, abs=0.01)
