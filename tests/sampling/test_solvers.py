# SPDX-License-Identifier: Apache-2.0
"""Solvers against diffusers, the analytic solution, and their order of convergence."""

import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    FlowMatchHeunDiscreteScheduler,
    HeunDiscreteScheduler,
)

from pippin import rng
from pippin.diffusion.schedules import make_schedule
from pippin.diffusion.times import Point, sampling_grid
from pippin.sampling.solvers import SOLVERS, Estimate, ddim, dpm_solver_pp, heun

SD = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
SHAPE = (2, 4, 3, 3)
ORDER = {"ddim": 1, "euler": 1, "heun": 2, "dpm++": 2}
"""Orders of the ODE solvers; ancestral sampling solves none."""


def _network(x_t, t):
    """Something nonlinear in both arguments that no solver integrates exactly."""
    return torch.tanh(x_t * (1 + t / 1000)) + 0.1 * torch.cos(x_t.flip(-1) + t / 300)


def no_draw(step):
    raise AssertionError("an ODE solver draws nothing")


def _eps_denoise(x, point):
    eps = _network(x, point.t)
    return Estimate((x - point.sigma * eps) / point.alpha, eps)


def _flow_denoise(x, point):
    velocity = _network(x, point.t)
    return Estimate(x - point.sigma * velocity, x + point.alpha * velocity)


def _noise():
    return rng.normal(SHAPE, "sample", 0)


def _theirs(scheduler, steps, network=_network, **timesteps):
    """Their loop; their state is x / alpha for some schedulers, which they scale themselves."""
    scheduler.set_timesteps(**(timesteps or {"num_inference_steps": steps}))
    x = _noise() * float(scheduler.init_noise_sigma) if _scales(scheduler) else _noise()
    for t in scheduler.timesteps:
        fed = scheduler.scale_model_input(x, t) if _scales(scheduler) else x
        x = scheduler.step(network(fed, float(t)), t, x).prev_sample
    return x


def _scales(scheduler):
    return hasattr(scheduler, "scale_model_input")


@pytest.mark.parametrize("spacing", ["leading", "trailing"])
@pytest.mark.parametrize("steps", [5, 10, 50])
def test_ddim_is_that_of_diffusers(spacing, steps):
    """fp32 state, their float32 table: 2e-4 on numbers of order 1 to 10."""
    scheduler = DDIMScheduler(
        **SD, clip_sample=False, timestep_spacing=spacing, steps_offset=spacing == "leading"
    )
    ours = ddim(
        _eps_denoise, _noise(), sampling_grid(make_schedule("sd"), steps, spacing), no_draw
    )
    torch.testing.assert_close(ours, _theirs(scheduler, steps), rtol=2e-4, atol=2e-4)


@pytest.mark.parametrize("steps", [1, 2, 10, 30])
def test_dpm_is_that_of_diffusers(steps):
    """Order 2, midpoint, zero final sigma; 2e-4 as above."""
    scheduler = DPMSolverMultistepScheduler(
        **SD, timestep_spacing="trailing", lower_order_final=True
    )
    assert scheduler.config.algorithm_type == "dpmsolver++"
    assert scheduler.config.solver_order == 2
    grid = sampling_grid(make_schedule("sd"), steps)
    ours = dpm_solver_pp(_eps_denoise, _noise(), grid, no_draw)
    torch.testing.assert_close(ours, _theirs(scheduler, steps), rtol=2e-4, atol=2e-4)


@pytest.mark.parametrize(
    ("name", "scheduler"),
    [("heun", HeunDiscreteScheduler), ("euler", EulerDiscreteScheduler)],
)
@pytest.mark.parametrize("steps", [4, 20])
def test_sigma_over_alpha_solvers_are_those_of_diffusers(name, scheduler, steps):
    """Their state is x / alpha; ours must agree at the clean end, where alpha = 1; 5e-4.

    With trailing spacing they start at sigma times the noise.
    """
    grid = sampling_grid(make_schedule("sd"), steps)
    theirs = scheduler(**SD, timestep_spacing="trailing")
    ours = SOLVERS[name](_eps_denoise, grid[0].sigma * _noise(), grid, no_draw)
    torch.testing.assert_close(ours, _theirs(theirs, steps), rtol=5e-4, atol=5e-4)


@pytest.mark.parametrize("steps", [1, 5, 40])
def test_flow_euler_is_that_of_diffusers(steps):
    """1e-5 in fp32."""
    ours = SOLVERS["euler"](
        _flow_denoise, _noise(), sampling_grid(make_schedule("flow"), steps), no_draw
    )
    sigmas = np.linspace(1, 1 / steps, steps)
    theirs = _theirs(FlowMatchEulerDiscreteScheduler(), steps, sigmas=sigmas)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


def test_flow_heun_is_that_of_diffusers():
    """On their grid, whose last time is 1, not 1000 / steps; 1e-5 in fp32."""
    scheduler = FlowMatchHeunDiscreteScheduler()
    theirs = _theirs(scheduler, 8)
    sigmas = [scheduler.sigmas[0].item(), *scheduler.sigmas[1::2].tolist()]
    grid = [Point(t=1000 * s, alpha=1 - s, sigma=s, scale=1.0) for s in sigmas]
    assert len(grid) == 9 and sigmas[-1] == 0
    ours = heun(_flow_denoise, _noise(), grid, no_draw)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


def _smooth_grid(name, steps):
    """Equal steps of log-SNR, far from both ends: a smooth grid shows the order."""
    schedule = make_schedule(name)
    log_snr = torch.linspace(-4.0, 5.0, steps + 1, dtype=torch.float64)
    t = schedule.time(log_snr)
    columns = (t.tolist(), schedule.alpha(t).tolist(), schedule.sigma(t).tolist())
    rows = zip(*columns, strict=True)
    return [Point(t=t, alpha=a, sigma=s, scale=1.0 if name == "flow" else a) for t, a, s in rows]


def _orders(gaussian, solver, grids):
    """How often the error halves when the steps double."""
    errors = [gaussian.error(solver, grid) for grid in grids]
    return [math.log2(coarse / fine) for coarse, fine in pairwise(errors)]


@pytest.mark.parametrize("schedule", ["sd", "flow"])
@pytest.mark.parametrize("name", ORDER)
def test_order_of_convergence_on_a_gaussian(gaussian, name, schedule):
    """The error falls like steps^-order; the measured order is within 0.2 of it."""
    grids = [_smooth_grid(schedule, steps) for steps in (64, 128, 256)]
    orders = _orders(gaussian, SOLVERS[name], grids)
    assert orders == pytest.approx([ORDER[name]] * 2, abs=0.2)


@pytest.mark.parametrize("name", ORDER)
def test_order_of_convergence_of_flow_from_pure_noise_to_clean(gaussian, name):
    """The whole path; dpm++ extrapolates in log-SNR, which costs it a logarithm: within 0.4."""
    grids = [sampling_grid(make_schedule("flow"), steps) for steps in (64, 128, 256)]
    assert _orders(gaussian, SOLVERS[name], grids) == pytest.approx([ORDER[name]] * 2, abs=0.4)


@pytest.mark.parametrize("schedule", ["sd", "ddpm", "cosine", "flow", "gvp"])
@pytest.mark.parametrize("name", ORDER)
def test_sampling_a_gaussian_on_the_real_grids(gaussian, name, schedule):
    """From the true state at the first time to clean, 100 steps, of values up to 1.5.

    On sd the last step alone, from index 9 to clean, costs 0.02.
    """
    grid = sampling_grid(make_schedule(schedule), 100)
    assert gaussian.error(SOLVERS[name], grid) < (0.04 if ORDER[name] == 1 else 0.025)


@pytest.mark.parametrize("name", ORDER)
def test_one_point_is_sampled_exactly_by_all(name):
    """All data at one value: x0 is constant along each path, and every solver exact."""

    def denoise(x, point):
        return Estimate(torch.full_like(x, 0.3), (x - point.alpha * 0.3) / point.sigma)

    for schedule in ("cosine", "flow", "gvp"):
        end = SOLVERS[name](denoise, _noise(), sampling_grid(make_schedule(schedule), 6), no_draw)
        torch.testing.assert_close(end, torch.full(SHAPE, 0.3), rtol=0, atol=1e-5)


@pytest.mark.parametrize("schedule", ["sd", "ddpm", "cosine", "flow", "gvp"])
@pytest.mark.parametrize("steps", [10, 40])
def test_heun_samples_a_gaussian_from_noise_in_fp32(gaussian, schedule, steps):
    """From standard normal noise, as the sampler; the deviation is within 0.1 of 0.5."""
    gaussian = replace(gaussian, mean=0.0, std=0.5)
    grid = sampling_grid(make_schedule(schedule), steps)
    noise = rng.normal((1, 1, 64, 64), "sample", 0)
    end = heun(gaussian.denoise, noise, grid, no_draw)
    assert end.std().item() == pytest.approx(0.5, abs=0.1)


@pytest.mark.parametrize(
    ("schedule", "calls"), [("sd", 9), ("ddpm", 9), ("flow", 9), ("gvp", 8), ("cosine", 8)]
)
def test_heun_corrects_the_first_step_unless_it_starts_from_nearly_pure_noise(
    gaussian, schedule, calls
):
    visited, grid = [], sampling_grid(make_schedule(schedule), 5)

    def denoise(x, point):
        visited.append(point)
        return gaussian.denoise(x, point)

    heun(denoise, _noise(), grid, no_draw)
    assert len(visited) == calls


@pytest.mark.parametrize("schedule", ["sd", "flow"])
@pytest.mark.parametrize(
    ("name", "calls"), [("ddim", 7), ("euler", 7), ("dpm++", 7), ("heun", 13)]
)
def test_evaluations_and_where_they_are_made(gaussian, name, calls, schedule):
    """Never at the clean end, at which no network was trained."""
    visited, grid = [], sampling_grid(make_schedule(schedule), 7)

    def denoise(x, point):
        visited.append(point)
        return gaussian.denoise(x, point)

    SOLVERS[name](denoise, _noise(), grid, no_draw)
    assert len(visited) == calls
    assert set(visited) == set(grid[:-1])


def test_the_grid_ends_clean_and_starts_where_the_schedule_does():
    grid = sampling_grid(make_schedule("sd"), 10)
    assert [point.t for point in grid[:-1]] == [*range(999, 0, -100)]
    assert grid[-1] == Point(t=0, alpha=1, sigma=0, scale=1)
    assert grid[0].alpha == pytest.approx(0.0047**0.5, rel=0.01)
    assert all(point.scale == point.alpha for point in grid)
    assert all(point.scale == 1 for point in sampling_grid(make_schedule("flow"), 10))


def test_half_log_snr_is_infinite_at_the_ends():
    flow = sampling_grid(make_schedule("flow"), 4)
    values = [point.half_log_snr for point in flow]
    assert values == pytest.approx([-math.inf, -math.log(3), 0, math.log(3), math.inf])


def test_flow_euler_by_its_own_formula():
    """x + (sigma' - sigma) v, written out."""
    x, grid = _noise(), sampling_grid(make_schedule("flow"), 3)
    for sigma, following in ((1.0, 2 / 3), (2 / 3, 1 / 3), (1 / 3, 0.0)):
        x = x + (following - sigma) * _network(x, 1000 * sigma)
    ours = SOLVERS["euler"](_flow_denoise, _noise(), grid, no_draw)
    torch.testing.assert_close(ours, x, rtol=0, atol=1e-5)


def test_the_sde_of_flow_is_the_update_of_sit():
    """dx = (velocity + sigma score) ds + sqrt(2 sigma ds) n towards the data, s = 1 - sigma; here
    the velocity is data - noise and the score -noise / sigma."""
    noises = [rng.normal(SHAPE, "sample", 0, step) for step in range(3)]
    x, grid, drawn = _noise(), sampling_grid(make_schedule("flow"), 4), []
    for step, (here, ahead) in enumerate(pairwise(grid)):
        velocity = -_network(x, here.t)
        score = -(x - here.alpha * velocity) / here.sigma
        width = ahead.alpha - here.alpha
        if step < 3:
            drift = velocity + here.sigma * score
            x = x + drift * width + math.sqrt(2 * here.sigma * width) * noises[step]
        else:
            x = x + velocity * width

    def draw(step):
        drawn.append(step)
        return noises[step]

    ours = SOLVERS["sde"](_flow_denoise, _noise(), grid, draw)
    torch.testing.assert_close(ours, x, rtol=1e-5, atol=1e-5)
    assert drawn == [0, 1, 2]  # none in the last step


@pytest.mark.parametrize("schedule", ["flow", "gvp", "sd"])
def test_the_sde_keeps_a_gaussian(gaussian, schedule):
    """With the exact x0 the samples have the data's mean and spread: within 0.05 of 4096 draws."""
    draws = torch.Generator().manual_seed(0)
    x = torch.randn(1, 1, 64, 64, generator=draws)
    grid = sampling_grid(make_schedule(schedule), 100)
    x = grid[0].alpha * gaussian.mean + x * math.hypot(grid[0].alpha * gaussian.std, grid[0].sigma)
    draw = lambda step: torch.randn(x.shape, generator=draws)  # noqa: E731
    end = SOLVERS["sde"](gaussian.denoise, x, grid, draw)
    assert abs(end.mean().item() - gaussian.mean) < 0.05
    assert abs(end.std().item() - gaussian.std) < 0.05


def test_ancestral_sampling_keeps_a_gaussian(gaussian):
    """With the exact x0 the samples have the data's mean and spread: within 0.05 of 4096 draws."""
    draws = torch.Generator().manual_seed(0)
    x = torch.randn(1, 1, 64, 64, generator=draws)
    grid = sampling_grid(make_schedule("ddpm"), 250, "linspace")
    steps = []

    def draw(step):
        steps.append(step)
        return torch.randn(x.shape, generator=draws)

    end = SOLVERS["ddpm"](gaussian.denoise, x, grid, draw)
    assert steps == list(range(249))  # none in the last step
    assert abs(end.mean().item() - gaussian.mean) < 0.05
    assert abs(end.std().item() - gaussian.std) < 0.05


@pytest.mark.parametrize("coefficient", [-1.0, 0.3, 1.0])
def test_ancestral_sampling_uses_the_learned_variance(gaussian, coefficient):
    """The noise of the first of two steps is scaled by it: between beta~ and beta, 1e-5."""
    grid = sampling_grid(make_schedule("ddpm"), 2, "linspace")
    here, ahead = grid[:2]
    x, noise, reached = _noise(), torch.ones(SHAPE), []

    def denoise(state, point):
        reached.append(state)
        found = gaussian.denoise(state, point)
        return Estimate(found.x0, found.eps, torch.full_like(state, coefficient))

    SOLVERS["ddpm"](denoise, x, grid, lambda step: noise)
    SOLVERS["ddpm"](denoise, x, grid, lambda step: 0 * noise)
    beta = 1 - (here.alpha / ahead.alpha) ** 2
    smallest = beta * (ahead.sigma / here.sigma) ** 2
    share = (coefficient + 1) / 2
    expected = math.sqrt(beta**share * smallest ** (1 - share))
    found = reached[1] - reached[3]
    torch.testing.assert_close(found, torch.full(SHAPE, expected), atol=1e-5, rtol=1e-4)
