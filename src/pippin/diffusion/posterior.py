# SPDX-License-Identifier: Apache-2.0
"""Reverse step of a DDPM from one index to an earlier one, with a learned variance.

For two points of a variance-preserving schedule, here (noisier) and ahead, the forward step
between them has beta = 1 - alpha_here^2 / alpha_ahead^2, and the posterior of the state ahead
given the state here and the data is normal with variance

    beta~ = sigma_ahead^2 / sigma_here^2 beta

(Ho et al. 2020, eq. 7, written for any two points, which is what respacing means). A network that
learns the variance gives an interpolation coefficient v, usually in [-1, 1], for each number:
log variance = f log beta + (1 - f) log beta~ with f = (v + 1) / 2 (Nichol & Dhariwal 2021,
arXiv 2102.09672, eq. 15).
"""

import math
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from pippin.diffusion.prediction import mean_of_values, per_row
from pippin.diffusion.schedules import NoiseSchedule
from pippin.types import Times

States = Float[Tensor, "batch *rest"]
PerRow = Float[Tensor, " batch"]


class Step(NamedTuple):
    """One reverse step, row by row; computed in fp64, stored in fp32."""

    of_data: PerRow
    """Factor of x0 in the posterior's mean."""
    of_state: PerRow
    """Factor of x_t in the posterior's mean."""
    log_beta: PerRow
    """Logarithm of the largest sensible variance."""
    log_posterior: PerRow
    """Logarithm of the smallest, the posterior's own."""

    def mean(self, x0: States, x_t: States) -> States:
        """Mean of the state ahead."""
        return per_row(self.of_data, x0) * x0 + per_row(self.of_state, x0) * x_t

    def log_variance(self, coefficient: States) -> States:
        """Learned log variance (Nichol & Dhariwal 2021, eq. 15)."""
        share = (coefficient.float() + 1) / 2
        low, high = per_row(self.log_posterior, share), per_row(self.log_beta, share)
        return share * high + (1 - share) * low


def step_back(alpha: PerRow, sigma: PerRow, alpha_ahead: PerRow, sigma_ahead: PerRow) -> Step:
    """Reverse step between two points of a variance-preserving schedule; all in fp64.

    A step to the clean end (sigma_ahead = 0) has no variance: its logarithm is -inf.
    """
    kept = alpha / alpha_ahead  # share of the state ahead in x_t
    beta = 1 - kept.square()
    variance = sigma.square()
    posterior = beta * sigma_ahead.square() / variance
    parts = (
        alpha_ahead * beta / variance,
        kept * sigma_ahead.square() / variance,
        beta.log(),
        posterior.log(),
    )
    return Step(*(part.float() for part in parts))


def training_step(schedule: NoiseSchedule, t: Times) -> Step:
    """Reverse step from index t to index t - 1, for the training loss.

    At index 0 the posterior has no variance; the published code uses that of index 1.

    Args:
        t: integers, on the CPU.
    """

    def point(times: Times) -> tuple[PerRow, PerRow]:
        return schedule.alpha(times.double()), schedule.sigma(times.double())

    first = t == 0
    alpha_ahead, sigma_ahead = point((t - 1).clamp(min=0))
    alpha_ahead, sigma_ahead = alpha_ahead.masked_fill(first, 1), sigma_ahead.masked_fill(first, 0)
    step = step_back(*point(t), alpha_ahead, sigma_ahead)
    lowest = step_back(*point(torch.ones(1)), *point(torch.zeros(1))).log_posterior
    return step._replace(log_posterior=torch.where(first, lowest, step.log_posterior))


def variational_bound(
    step: Step,
    first: Bool[Tensor, " batch"],
    x0: States,
    x_t: States,
    x0_guess: States,
    coefficient: States,
    mask: Float[Tensor, "batch one height width"] | None = None,
) -> PerRow:
    """Terms of the variational bound, in bits per value (Nichol & Dhariwal 2021, eq. 4).

    KL divergence of the model's step from the posterior; at index 0 the likelihood of x0 under a
    normal distribution over bins of 2/255. Like the published code, this treats latents as if
    they were pixels.

    Args:
        step: result of :func:`training_step`, on the states' device.
        first: True where the index is 0.
        x0_guess: the network's estimate of x0. Detach it: the bound trains the variance only.
        coefficient: the network's v.
        mask: of the positions that count, see :func:`pippin.diffusion.prediction.mean_of_values`.
    """
    mean, log_variance = step.mean(x0_guess, x_t), step.log_variance(coefficient)
    posterior = per_row(step.log_posterior, x0)
    divergence = _normal_divergence(step.mean(x0, x_t), posterior, mean, log_variance)
    surprise = -_binned_log_likelihood(x0, mean, log_variance / 2)
    nats = torch.where(first.reshape(-1, *[1] * (x0.dim() - 1)), surprise, divergence)
    mean_nats = nats.flatten(1).mean(dim=1) if mask is None else mean_of_values(nats, mask)
    return mean_nats / math.log(2)


def _normal_divergence(mean1: States, log1: Tensor, mean2: States, log2: States) -> States:
    """KL of N(mean1, exp log1) from N(mean2, exp log2)."""
    spread = (log1 - log2).exp() + (mean1 - mean2).square() * (-log2).exp()
    return 0.5 * (log2 - log1 + spread - 1)


def _binned_log_likelihood(x: States, mean: States, log_std: States) -> States:
    """Log probability of a normal distribution in a bin of 2/255 around x; the bins at -1 and 1
    extend to infinity."""
    inverse, centred = (-log_std).exp(), x - mean
    below = _normal_cdf(inverse * (centred - 1 / 255))
    above = _normal_cdf(inverse * (centred + 1 / 255))
    mass = torch.where(x < -0.999, above, torch.where(x > 0.999, 1 - below, above - below))
    return mass.clamp(min=1e-12).log()


def _normal_cdf(x: States) -> States:
    """Normal CDF by the published code's tanh approximation."""
    return 0.5 * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
