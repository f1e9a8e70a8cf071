# SPDX-License-Identifier: Apache-2.0
"""Schedules against diffusers' tables, closed forms and their own inverse."""

import math

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler
from hypothesis import given, settings
from hypothesis import strategies as st

from pippin.diffusion.schedules import make_schedule

DISCRETE = {
    "sd": {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012},
    "ldm-f4": {"beta_schedule": "scaled_linear", "beta_start": 0.0015, "beta_end": 0.0195},
    "ddpm": {"beta_schedule": "linear", "beta_start": 0.0001, "beta_end": 0.02},
    "cosine": {"beta_schedule": "squaredcos_cap_v2"},
}
ALL = (*DISCRETE, "flow", "gvp")


@pytest.mark.parametrize("name", DISCRETE)
def test_equals_diffusers_at_every_index(name):
    """diffusers' table is a float32 product of 1000 factors: 1e-4 relative."""
    table = DDPMScheduler(**DISCRETE[name]).alphas_cumprod.double()
    schedule, t = make_schedule(name), torch.arange(1000.0, dtype=torch.float64)
    torch.testing.assert_close(schedule.alpha(t) ** 2, table, rtol=1e-4, atol=1e-8)
    torch.testing.assert_close(schedule.sigma(t) ** 2, 1 - table, rtol=1e-3, atol=1e-8)


def test_ddpm_starts_and_ends_where_its_betas_say():
    schedule = make_schedule("ddpm")
    betas = np.linspace(1e-4, 0.02, 1000)
    ends = schedule.alpha(torch.tensor([0.0, 1.0, 999.0], dtype=torch.float64)) ** 2
    wanted = [1 - betas[0], (1 - betas[0]) * (1 - betas[1]), math.prod(1 - betas)]
    assert ends.tolist() == pytest.approx(wanted, rel=1e-10)


@pytest.mark.parametrize("name", DISCRETE)
def test_discrete_schedules_preserve_variance_between_indices_too(name):
    schedule, t = make_schedule(name), torch.linspace(0, 999, 3333, dtype=torch.float64)
    total = schedule.alpha(t) ** 2 + schedule.sigma(t) ** 2
    torch.testing.assert_close(total, torch.ones_like(t), rtol=0, atol=1e-14)


@pytest.mark.parametrize("name", DISCRETE)
def test_log_snr_is_linear_between_indices(name):
    schedule, t = make_schedule(name), torch.tensor([0.0, 412.0, 998.0], dtype=torch.float64)
    below, above = schedule.log_snr(t), schedule.log_snr(t + 1)
    torch.testing.assert_close(
        schedule.log_snr(t + 0.25), 0.75 * below + 0.25 * above, rtol=0, atol=1e-12
    )


def test_flow_is_linear():
    schedule, t = make_schedule("flow"), torch.linspace(0, 1000, 77, dtype=torch.float64)
    torch.testing.assert_close(schedule.sigma(t), t / 1000, rtol=0, atol=1e-15)
    torch.testing.assert_close(schedule.alpha(t), 1 - t / 1000, rtol=0, atol=1e-15)


@pytest.mark.parametrize("name", ["flow", "gvp"])
def test_continuous_ends_are_exact_and_their_log_snr_is_infinite(name):
    schedule, ends = make_schedule(name), torch.tensor([0.0, 1000.0])
    assert schedule.alpha(ends).tolist() == [1, 0]
    assert schedule.sigma(ends).tolist() == [0, 1]
    assert schedule.log_snr(ends).tolist() == [math.inf, -math.inf]
    assert schedule.time(schedule.log_snr(ends)).tolist() == [0, 1000]


def test_gvp_is_a_quarter_turn_and_its_velocity_is_a_multiple_of_v():
    """1e-6 of finite differences over t / 1000."""
    schedule, t = make_schedule("gvp"), torch.linspace(1, 999, 77, dtype=torch.float64)
    torch.testing.assert_close(schedule.sigma(t), torch.sin(torch.pi * t / 2000))
    torch.testing.assert_close(schedule.alpha(t), torch.cos(torch.pi * t / 2000))
    x0, eps, width = torch.tensor(0.7).double(), torch.tensor(-1.3).double(), 0.01

    def state(t):
        return schedule.alpha(t) * x0 + schedule.sigma(t) * eps

    velocity = (state(t + width) - state(t - width)) / (2 * width / 1000)
    v = schedule.alpha(t) * eps - schedule.sigma(t) * x0
    torch.testing.assert_close(velocity, torch.pi / 2 * v, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", ALL)
def test_log_snr_agrees_with_alpha_and_sigma_and_falls(name):
    schedule = make_schedule(name)
    t = torch.linspace(0.5, schedule.max_time - 0.5, 2000, dtype=torch.float64)
    log_snr = schedule.log_snr(t)
    ratio = (schedule.alpha(t) / schedule.sigma(t)).log() * 2
    torch.testing.assert_close(log_snr, ratio, rtol=1e-10, atol=1e-10)
    assert (log_snr.diff() < 0).all()


@pytest.mark.parametrize("name", ALL)
@settings(max_examples=25, deadline=None, derandomize=True)
@given(fraction=st.floats(0, 1))
def test_time_is_the_inverse_of_log_snr(name, fraction):
    """1e-7 of 1000: flow's sigmoid loses digits near t = 1000."""
    schedule = make_schedule(name)
    t = torch.tensor([fraction * schedule.max_time], dtype=torch.float64)
    torch.testing.assert_close(schedule.time(schedule.log_snr(t)), t, rtol=0, atol=1e-7)


@pytest.mark.parametrize("name", DISCRETE)
def test_a_log_snr_beyond_the_ends_gives_the_end(name):
    schedule = make_schedule(name)
    beyond = torch.tensor([100.0, math.inf, -100.0, -math.inf])
    assert schedule.time(beyond).tolist() == [0, 0, 999, 999]


@pytest.mark.parametrize("name", ALL)
def test_dtypes_and_shapes(name):
    schedule, t = make_schedule(name), torch.full((2, 3), 500.0)
    for function in (schedule.alpha, schedule.sigma, schedule.log_snr, schedule.time):
        assert function(t.double()).dtype == torch.float64
        for dtype in (torch.float32, torch.bfloat16):
            assert function(t.to(dtype)).dtype == torch.float32
        assert function(t).shape == (2, 3)


@pytest.mark.parametrize(("name", "wrong"), [("sd", 999.5), ("flow", 1000.5), ("sd", -1.0)])
def test_times_outside_are_refused(name, wrong):
    with pytest.raises(ValueError, match=r"times must lie in \[0, "):
        make_schedule(name).alpha(torch.tensor([3.0, wrong]))


@pytest.mark.parametrize("steps", [1, 4, 10, 50, 250, 1000])
@pytest.mark.parametrize("spacing", ["leading", "trailing", "linspace"])
def test_spacings_are_those_of_diffusers(spacing, steps):
    offset = 1 if spacing == "leading" and steps < 1000 else 0
    theirs = DDIMScheduler(timestep_spacing=spacing, steps_offset=offset)
    theirs.set_timesteps(steps)
    wanted = theirs.timesteps.tolist() if (spacing, steps) != ("linspace", 1) else [999]
    assert make_schedule("sd").times(steps, spacing).tolist() == wanted


@pytest.mark.parametrize("steps", [3, 7, 30, 333, 999])
@pytest.mark.parametrize("spacing", ["leading", "trailing", "linspace"])
def test_sampling_times_fall_strictly_inside_the_table(spacing, steps):
    times = make_schedule("cosine").times(steps, spacing)
    assert times.shape == (steps,) and times.dtype == torch.float32
    assert (times.diff() < 0).all() and times[0] <= 999 and times[-1] >= 0
    assert (times == times.round()).all()


@pytest.mark.parametrize("name", ["flow", "gvp"])
def test_continuous_times_are_equal_steps(name):
    assert make_schedule(name).times(4).tolist() == [1000, 750, 500, 250]


@pytest.mark.parametrize(
    ("name", "steps", "spacing", "message"),
    [
        ("sd", 0, "trailing", "from 1 to 1000, got 0"),
        ("sd", 1001, "trailing", "from 1 to 1000, got 1001"),
        ("flow", 0, "trailing", "at least 1, got 0"),
        ("flow", 5, "leading", "only 'trailing' spacing, got 'leading'"),
    ],
)
def test_wrong_steps_are_refused(name, steps, spacing, message):
    with pytest.raises(ValueError, match=message):
        make_schedule(name).times(steps, spacing)
