# SPDX-License-Identifier: Apache-2.0
"""Mean velocities (MeanFlow; Geng et al. 2025, arXiv 2505.13447), under rectified flow.

The mean velocity from a time r to a later time t is the displacement over the interval,

    (t - r) u(z_t, r, t) = z_t - z_r = integral of v(z_s, s) from r to t,

so that one step z_r = z_t - (t - r) u is exact. The derivative by t, along the path and with r
fixed, gives the identity that a network learns:

    u = v - (t - r) du/dt,    du/dt = v du/dz + du/dt at fixed z

At r = t it is flow matching. The total derivative of the network is a Jacobian-vector product with
the tangent (v, 0, 1) of (z, r, t), by forward-mode differentiation and without gradient. Networks
here read the interval t - r instead of r, and its tangent is 1 too. The product is computed for
the images with r < t only, and apart from the forward pass that has gradients: that pass keeps its
fused kernels, its compiled blocks and its recomputation.

Formulas count time in units of 1000, calls in [0, 1000] as everywhere.
"""

from collections.abc import Callable

import torch
from jaxtyping import Bool
from torch import Tensor
from torch.autograd.forward_ad import make_dual, unpack_dual

from pippin.diffusion.config import MeanFlowConfig
from pippin.diffusion.forward_derivative import forward_derivatives
from pippin.diffusion.prediction import per_row
from pippin.types import NUM_TIMES, Latents, Times

MeanVelocity = Callable[[Latents, Times, Times], Latents]
"""(z, t, t - r) -> u(z, r, t), in fp32 at least."""


def interval_rows(share: float, count: int, offset: float) -> Bool[Tensor, " count"]:
    """Rows with an interval: a share of them at equal distances, so that ranks and micro-batches
    get equally many, up to one (systematic sampling).

    Args:
        share: share of the rows, in [0, 1].
        count: number of rows.
        offset: uniform number in [0, 1), which moves the rows from step to step.
    """
    edges = torch.arange(count + 1, dtype=torch.float64) * share + offset
    return edges.floor().diff() > 0


def ordered_interval(
    first: Times, second: Times, rows: Bool[Tensor, " batch"]
) -> tuple[Times, Times]:
    """The later one of two drawn times, t, and t - r, which is 0 except for given rows.

    The later one is t for the other rows as well, as in the authors' code.
    """
    t = torch.maximum(first, second)
    return t, torch.where(rows, t - torch.minimum(first, second), 0)


def total_derivative(
    mean_velocity: MeanVelocity, z: Latents, t: Times, interval: Times, velocity: Latents
) -> Latents:
    """du/dt along dz/dt = ``velocity`` with r fixed, by forward-mode differentiation.

    Args:
        mean_velocity: the network, for these rows.
        z: states at t.
        velocity: dz/dt, t in units of 1000.
    """
    rate = torch.full_like(t, NUM_TIMES)
    with forward_derivatives():
        duals = make_dual(z, velocity), make_dual(t, rate), make_dual(interval, rate)
        tangent = unpack_dual(mean_velocity(*duals)).tangent
    return torch.zeros_like(velocity) if tangent is None else tangent


def mean_velocity_target(
    mean_velocity: MeanVelocity, z: Latents, t: Times, interval: Times, velocity: Latents
) -> Latents:
    """u = v - (t - r) du/dt, the target of a network without gradient.

    Args:
        mean_velocity: the network, for these rows.
        z: states at t.
        velocity: v, dz/dt of the state.
    """
    with torch.no_grad():
        slope = total_derivative(mean_velocity, z, t, interval, velocity)
        return velocity - per_row(interval / NUM_TIMES, z) * slope


def guided_velocity(
    config: MeanFlowConfig,
    velocity: Latents,
    conditional: Latents,
    unconditional: Latents,
    t: Times,
) -> Latents:
    """omega v + kappa u(conditional) + (1 - omega - kappa) u(unconditional), at guided times.

    Its fixed point is guidance with the scale omega / (1 - kappa) (Geng et al. 2025, appendix).

    Args:
        velocity: v of the image and its noise.
        conditional, unconditional: the network's velocities, at r = t.
        t: time of each row; outside ``guided_times`` v is returned.
    """
    low, high = config.guided_times
    inside = per_row((t >= low * NUM_TIMES) & (t <= high * NUM_TIMES), velocity) > 0
    omega, kappa = config.omega, config.kappa
    guided = omega * velocity + kappa * conditional + (1 - omega - kappa) * unconditional
    return torch.where(inside, guided, velocity)


def velocity_of(mean_velocity: MeanVelocity, z: Latents, t: Times) -> Latents:
    """The network's velocity, u at r = t, without gradient."""
    with torch.no_grad():
        return mean_velocity(z, t, torch.zeros_like(t))
