# SPDX-License-Identifier: Apache-2.0
"""Conversions between all prediction types."""

import itertools
import math

import pytest
import torch
from diffusers import DDPMScheduler
from hypothesis import given, settings
from hypothesis import strategies as st

from pippin import rng
from pippin.diffusion.prediction import add_noise, convert, target, to_x0_and_eps
from pippin.diffusion.schedules import make_schedule

KINDS = ["eps", "v", "x0", "flow"]
SHAPE = (3, 4, 2, 5)


def _pair(dtype=torch.float64):
    x0 = rng.normal(SHAPE, "noise", 1).to(dtype)
    return x0, rng.normal(SHAPE, "noise", 2).to(dtype)


@pytest.mark.parametrize(("source", "wanted"), list(itertools.product(KINDS, KINDS)))
@settings(max_examples=15, deadline=None, derandomize=True)
@given(alpha=st.floats(0.01, 1), sigma=st.floats(0.01, 1))
def test_every_conversion_gives_the_other_target(source, wanted, alpha, sigma):
    """For any alpha and sigma, not only on a schedule; 1e-10 in float64."""
    x0, eps = _pair()
    a = torch.full((3,), alpha, dtype=torch.float64)
    s = torch.tensor([sigma, 0.5, 1.0], dtype=torch.float64)
    x_t = add_noise(x0, eps, a, s)
    found = convert(source, wanted, x_t, target(source, x0, eps, a, s), a, s)
    torch.testing.assert_close(found, target(wanted, x0, eps, a, s), rtol=0, atol=1e-10)


@pytest.mark.parametrize(("source", "wanted"), list(itertools.product(KINDS, KINDS)))
def test_conversion_of_an_imperfect_prediction_returns(source, wanted):
    """Round trip; rows at three noise levels; 1e-12 in float64."""
    x_t, wrong = _pair()
    a, s = torch.tensor([0.99, 0.6, 0.1]).double(), torch.tensor([0.2, 0.8, 0.995]).double()
    there = convert(source, wanted, x_t, wrong, a, s)
    back = convert(wanted, source, x_t, there, a, s)
    torch.testing.assert_close(back, wrong, rtol=0, atol=1e-12)


def test_v_is_that_of_diffusers():
    """diffusers' table is float32: 1e-5."""
    theirs = DDPMScheduler(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012)
    x0, eps = _pair(torch.float32)
    t, schedule = torch.tensor([0, 500, 999]), make_schedule("sd")
    alpha, sigma = schedule.alpha(t.float()), schedule.sigma(t.float())
    torch.testing.assert_close(
        target("v", x0, eps, alpha, sigma), theirs.get_velocity(x0, eps, t), rtol=0, atol=1e-5
    )
    torch.testing.assert_close(
        add_noise(x0, eps, alpha, sigma), theirs.add_noise(x0, eps, t), rtol=0, atol=1e-5
    )


def test_flow_is_the_velocity_of_rectified_flow():
    """d x_t / d sigma by finite difference, along alpha = 1 - sigma."""
    x0, eps = _pair()
    s = torch.tensor([0.1, 0.5, 0.9]).double()
    slope = (add_noise(x0, eps, 1 - s - 0.01, s + 0.01) - add_noise(x0, eps, 1 - s, s)) / 0.01
    torch.testing.assert_close(target("flow", x0, eps, 1 - s, s), slope, rtol=0, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_the_predicted_quantity_comes_back_bit_for_bit(kind):
    x_t, prediction = _pair(torch.float32)
    a, s = torch.tensor([0.3, 0.7, 0.0]), torch.tensor([0.9, 0.7, 1.0])
    assert convert(kind, kind, x_t, prediction, a, s) is prediction
    if kind == "x0":
        assert to_x0_and_eps(kind, x_t, prediction, a, s)[0] is prediction
    if kind == "eps":
        assert to_x0_and_eps(kind, x_t, prediction, a, s)[1] is prediction


@pytest.mark.parametrize("kind", KINDS)
def test_the_ends_are_finite_and_right_where_they_are_known(kind):
    """Rows: pure noise, pure data, half."""
    x0, eps = _pair(torch.float32)
    a, s = torch.tensor([0.0, 1.0, 0.6]), torch.tensor([1.0, 0.0, 0.8])
    prediction = target(kind, x0, eps, a, s)
    found_x0, found_eps = to_x0_and_eps(kind, add_noise(x0, eps, a, s), prediction, a, s)
    assert found_x0.isfinite().all() and found_eps.isfinite().all()
    untold_x0, untold_eps = kind == "eps", kind == "x0"
    torch.testing.assert_close(found_x0[0], x0[0] * (not untold_x0), rtol=0, atol=1e-6)
    torch.testing.assert_close(found_eps[1], eps[1] * (not untold_eps), rtol=0, atol=1e-6)
    torch.testing.assert_close(found_x0[1:], x0[1:], rtol=0, atol=1e-6)
    torch.testing.assert_close(found_eps[::2], eps[::2], rtol=0, atol=1e-6)


def test_bf16_is_computed_in_float32():
    x0, eps = _pair(torch.bfloat16)
    a, s = torch.tensor([0.9, 0.6, 0.3]), torch.tensor([0.1, 0.8, 0.7])
    x_t = add_noise(x0, eps, a, s)
    assert x_t.dtype == torch.float32
    wanted = add_noise(x0.double(), eps.double(), a.double(), s.double())
    torch.testing.assert_close(x_t.double(), wanted, rtol=0, atol=1e-6)


def test_one_number_a_row_in_either_shape():
    """(batch,) must not broadcast over the last axis, even if the sizes match."""
    x0, eps = rng.normal((5, 1, 1, 5), "noise", 1), rng.normal((5, 1, 1, 5), "noise", 2)
    a, s = torch.linspace(0, 1, 5), torch.linspace(1, 0, 5)
    column = target("v", x0, eps, a[:, None, None, None], s[:, None, None, None])
    assert torch.equal(target("v", x0, eps, a, s), column)
    row = a[2] * eps[2] - s[2] * x0[2]
    torch.testing.assert_close(column[2], row, rtol=0, atol=1e-6)
    assert math.isclose(a[2].item(), 0.5)
