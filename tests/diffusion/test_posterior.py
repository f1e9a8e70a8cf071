# SPDX-License-Identifier: Apache-2.0
"""Reverse step against diffusers, closed forms and the full variational bound."""

import math
from itertools import pairwise

import pytest
import torch
from diffusers import DDPMScheduler

from pippin.diffusion.posterior import Step, step_back, training_step, variational_bound
from pippin.diffusion.prediction import add_noise
from pippin.diffusion.schedules import make_schedule

SCHEDULE = make_schedule("ddpm")


def at(*indices):
    t = torch.tensor(indices, dtype=torch.float64)
    return SCHEDULE.alpha(t), SCHEDULE.sigma(t)


def states(rows=2):
    draws = torch.Generator().manual_seed(0)
    return [torch.randn(rows, 4, 3, 3, generator=draws) for _ in range(3)]


@pytest.mark.parametrize("index", [1, 17, 500, 999])
def test_mean_and_learned_variance_are_those_of_diffusers(index):
    """1e-4 relative: diffusers has 1 - alpha^2 of index 0 in fp32, which leaves four digits."""
    theirs = DDPMScheduler(
        beta_start=0.0001, beta_end=0.02, variance_type="learned_range", clip_sample=False
    )
    x, eps, coefficient = states()
    coefficient = coefficient.clamp(-1, 1)
    draws = torch.Generator().manual_seed(3)
    output = torch.cat([eps, coefficient], dim=1)
    expected = theirs.step(output, index, x, generator=draws).prev_sample
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(3))
    alpha, sigma = (value.float()[:, None, None, None] for value in at(index))
    step = step_back(*at(index), *at(index - 1))
    found = step.mean((x - sigma * eps) / alpha, x)
    found = found + (step.log_variance(coefficient) / 2).exp() * noise
    torch.testing.assert_close(found, expected, atol=2e-5, rtol=1e-4)


def test_two_steps_compose_to_one():
    """Consistent marginals: from the true state at 300, via 200 or directly, the state at 100 has
    mean alpha x0 and variance sigma^2."""
    for path in ((300, 100), (300, 200, 100)):
        mean_factor, variance = at(path[0])[0], at(path[0])[1].square()
        for here, ahead in pairwise(path):
            step = step_back(*at(here), *at(ahead))
            mean_factor = step.of_data.double() + step.of_state.double() * mean_factor
            variance = step.of_state.double().square() * variance
            variance = variance + step.log_posterior.double().exp()
        alpha, sigma = at(100)
        torch.testing.assert_close(mean_factor, alpha, atol=1e-6, rtol=0)
        torch.testing.assert_close(variance, sigma.square(), atol=1e-6, rtol=0)


def test_the_last_step_returns_the_data_without_variance():
    clean = (torch.ones(1, dtype=torch.float64), torch.zeros(1, dtype=torch.float64))
    step = step_back(*at(0), *clean)
    x0, x_t, _ = states(1)
    torch.testing.assert_close(step.mean(x0, x_t), x0, atol=1e-6, rtol=0)
    assert step.log_posterior.item() == -math.inf


def test_training_puts_index_ones_variance_at_index_zero():
    step = training_step(SCHEDULE, torch.tensor([0.0, 1.0, 2.0]))
    assert step.log_posterior[0] == step.log_posterior[1]
    assert step.log_posterior[2] > step.log_posterior[1]
    assert step.log_beta.isfinite().all()


def bound(t, x0, x_t, guess, coefficient):
    step = Step(*training_step(SCHEDULE, t))
    return variational_bound(step, t == 0, x0, x_t, guess, coefficient)


def test_the_bound_vanishes_for_the_true_posterior_and_grows_with_the_error():
    x0, noise, _ = states()
    t = torch.tensor([1.0, 600.0])
    alpha, sigma = SCHEDULE.alpha(t), SCHEDULE.sigma(t)
    x_t = add_noise(x0, noise, alpha, sigma)
    lowest = torch.full_like(x0, -1.0)  # the posterior's own variance
    exact = bound(t, x0, x_t, x0, lowest)
    torch.testing.assert_close(exact, torch.zeros(2), atol=1e-6, rtol=0)
    assert (bound(t, x0, x_t, x0 + 0.1, lowest) > 1e-6).all()
    assert (bound(t, x0, x_t, x0, torch.ones_like(x0)) >= exact).all()


def test_the_bound_is_the_divergence_of_two_normals_by_torch():
    x0, noise, v = states()
    t = torch.tensor([40.0, 900.0])
    x_t = add_noise(x0, noise, SCHEDULE.alpha(t), SCHEDULE.sigma(t))
    step = training_step(SCHEDULE, t)
    true_std = (step.log_posterior / 2).exp()[:, None, None, None].expand_as(x0)
    true = torch.distributions.Normal(step.mean(x0, x_t), true_std)
    mine = torch.distributions.Normal(step.mean(0.9 * x0, x_t), (step.log_variance(v) / 2).exp())
    expected = torch.distributions.kl_divergence(true, mine).mean(dim=(1, 2, 3)) / math.log(2)
    found = bound(t, x0, x_t, 0.9 * x0, v)
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-4)


def test_index_zero_is_a_likelihood_over_bins():
    """Against the exact normal; the tanh approximation of its CDF is off by 4e-4."""
    x0 = torch.linspace(-0.9, 0.9, 16).reshape(1, 1, 4, 4)
    t = torch.zeros(1)
    x_t = add_noise(x0, torch.randn(x0.shape), SCHEDULE.alpha(t), SCHEDULE.sigma(t))
    v = torch.zeros_like(x0)
    step = training_step(SCHEDULE, t)
    normal = torch.distributions.Normal(
        step.mean(x0 + 0.01, x_t), (step.log_variance(v) / 2).exp()
    )
    mass = normal.cdf(x0 + 1 / 255) - normal.cdf(x0 - 1 / 255)
    expected = -mass.log().mean() / math.log(2)
    torch.testing.assert_close(bound(t, x0, x_t, x0 + 0.01, v)[0], expected, atol=0.01, rtol=0.01)
