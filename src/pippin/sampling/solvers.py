# SPDX-License-Identifier: Apache-2.0
"""Solvers of the probability-flow ODE and the reverse SDE, from noise to data.

All have one calling convention: ``solver(denoise, x, grid, draw_noise) -> x`` walks through the
points of the grid. ``denoise`` gives the estimates (x0, eps, variance) for a state at a point, and
with a second point those of the mean velocity between both; it is not called at the last point.
``draw_noise`` gives the noise of a step, where a solver adds any.
The state stays in its own dtype, float32 in the sampler; the factors are float64 numbers.
"""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor

from pippin.diffusion.posterior import step_back
from pippin.diffusion.times import Point
from pippin.sampling.config import SolverName
from pippin.types import Latents


class Estimate(NamedTuple):
    """The network's estimates for a state."""

    x0: Tensor
    eps: Tensor
    variance: Tensor | None = None
    """The coefficient of a learned variance."""


@runtime_checkable
class Denoise(Protocol):
    """The network, as a solver calls it."""

    def __call__(self, x: Tensor, here: Point, end: Point | None = None, /) -> Estimate:
        """Estimates for a state at a point; with an end, those of the mean velocity from there to
        the point."""


DrawNoise = Callable[[int], Tensor]
"""Standard normal noise of a step, counted from 0, in the state's shape."""
Solver = Callable[[Denoise, Tensor, Sequence[Point], DrawNoise], Tensor]


def ddim(denoise: Denoise, x: Latents, grid: Sequence[Point], draw_noise: DrawNoise) -> Latents:
    """DDIM with eta = 0 (Song et al. 2021, eq. 12); one evaluation a step, first order.

    This is also Euler's method: in sigma / alpha for variance-preserving schedules, and in
    sigma for rectified flow, where it reads x + (sigma' - sigma)(eps - x0).
    """
    return _first_order(lambda x, here, _: denoise(x, here), x, grid)


def mean_flow(
    denoise: Denoise, x: Latents, grid: Sequence[Point], draw_noise: DrawNoise
) -> Latents:
    """MeanFlow (Geng et al. 2025, arXiv 2505.13447, algorithm 2): x_r = x_t - (t - r) u(x_t, r, t)
    with the mean velocity u of the step; one evaluation a step, exact for an exact u.

    It is DDIM's update: with x0 and eps from x_t and u, the state at r that holds both is x_r.
    """
    return _first_order(denoise, x, grid)


def _first_order(
    estimate: Callable[[Tensor, Point, Point], Estimate], x: Latents, grid: Sequence[Point]
) -> Latents:
    """Steps to the state with the estimated data and noise, (state, here, ahead) -> estimates."""
    for here, ahead in pairwise(grid):
        x = _state_at(ahead, estimate(x, here, ahead))
    return x


SMALLEST_SCALE = 1e-3
"""Scale of the first point below which Heun's step has no correction: on `cosine`, which starts at
0.00005, it multiplies errors by thousands."""


def heun(denoise: Denoise, x: Latents, grid: Sequence[Point], draw_noise: DrawNoise) -> Latents:
    """Heun's method (Karras et al. 2022, algorithm 1); second order.

    Two evaluations a step, one in the last and one in a first step from nearly pure noise of a
    variance-preserving schedule, where the slope has no limit. The trapezoid rule is written
    without slopes: the Euler step ahead, plus half of what is missing when the estimates there
    lead back.
    """
    last = len(grid) - 2
    for step, (here, ahead) in enumerate(pairwise(grid)):
        reached = _state_at(ahead, denoise(x, here))
        if step < last and (step > 0 or here.scale >= SMALLEST_SCALE):
            back = _state_at(here, denoise(reached, ahead))
            reached = reached + 0.5 * (ahead.scale / here.scale) * (x - back)
        x = reached
    return x


def dpm_solver_pp(
    denoise: Denoise, x: Latents, grid: Sequence[Point], draw_noise: DrawNoise
) -> Latents:
    """DPM-Solver++(2M) (Lu et al. 2022, arXiv 2211.01095, algorithm 2); second order.

    One evaluation a step, whose x0 is extrapolated with the one before it. The first step, and
    one that ends at sigma = 0, where the extrapolation has no limit, are of first order.
    """
    before, width_before = None, math.inf
    for here, ahead in pairwise(grid):
        x0 = denoise(x, here).x0
        width = ahead.half_log_snr - here.half_log_snr
        guess = x0
        if before is not None and ahead.sigma > 0:
            # A step from pure noise has infinite width: the next one then extrapolates nothing.
            guess = x0 + width / (2 * width_before) * (x0 - before)
        x = ahead.alpha * guess + ahead.sigma / here.sigma * (x - here.alpha * guess)
        before, width_before = x0, width
    return x


def ancestral(
    denoise: Denoise, x: Latents, grid: Sequence[Point], draw_noise: DrawNoise
) -> Latents:
    """DDPM's own sampler (Ho et al. 2020, algorithm 2), respaced to the grid.

    With the variance that the network learned, or, where it learned none, the posterior's own.
    The last step, to the clean end, is without noise.
    """
    for number, (here, ahead) in enumerate(pairwise(grid)):
        points = (here.alpha, here.sigma, ahead.alpha, ahead.sigma)
        step = step_back(*(x.new_tensor([value], dtype=torch.float64) for value in points))
        estimate = denoise(x, here)
        mean = step.mean(estimate.x0, x)
        if ahead.sigma == 0:
            return mean
        if estimate.variance is None:
            log_variance = step.log_posterior.reshape(-1, 1, 1, 1)
        else:
            log_variance = step.log_variance(estimate.variance)
        x = mean + (log_variance / 2).exp() * draw_noise(number)
    return x


def reverse_sde(
    denoise: Denoise, x: Latents, grid: Sequence[Point], draw_noise: DrawNoise
) -> Latents:
    """Euler-Maruyama steps of a reverse SDE (Ma et al. 2024, arXiv 2401.08740, eq. 6) with
    diffusion coefficient w = 2 sigma, in sigma.

    A step is the ODE's, and beside it -w / 2 eps / sigma d_sigma of the score and sqrt(w d_sigma)
    of fresh noise. For rectified flow this is SiT's own update with its form "sigma". The last
    step, to the clean end, is the ODE's.
    """
    last = len(grid) - 2
    for number, (here, ahead) in enumerate(pairwise(grid)):
        estimate = denoise(x, here)
        x = _state_at(ahead, estimate)
        if number < last:
            width = here.sigma - ahead.sigma
            x = x - width * estimate.eps + math.sqrt(2 * here.sigma * width) * draw_noise(number)
    return x


SOLVERS: dict[SolverName, Solver] = {
    "ddim": ddim,
    "euler": ddim,
    "heun": heun,
    "dpm++": dpm_solver_pp,
    "ddpm": ancestral,
    "sde": reverse_sde,
    "meanflow": mean_flow,
}
"""euler is ddim under the name it has in flow matching."""


def _state_at(point: Point, estimate: Estimate) -> Tensor:
    """The state at a point that holds this data and this noise."""
    return point.alpha * estimate.x0 + point.sigma * estimate.eps
