# SPDX-License-Identifier: Apache-2.0
"""Training times: from uniform numbers to times, by the inverse of the distribution function."""

import torch
from jaxtyping import Float
from torch import Tensor

from pippin.diffusion.config import LogitNormalTime, UniformTime
from pippin.diffusion.schedules import NoiseSchedule
from pippin.types import Times


def draw_times(
    density: UniformTime | LogitNormalTime, uniforms: Times, schedule: NoiseSchedule
) -> Times:
    """Times (float32) whose fraction of the way from clean to noise has the density.

    The fraction is u itself (uniform) or sigmoid(mean + std Phi^-1(u)) (logit-normal; Esser et
    al. 2024, section 3.1). A discrete schedule rounds it down to an index, so that uniform
    times are the integers 0..999, equally often; rectified flow takes t = 1000 fraction.

    Args:
        density: the configured density.
        uniforms: uniform numbers in [0, 1).
        schedule: the schedule that gives the times their meaning.
    """
    return schedule.time_at(_fraction(density, uniforms.double())).float()


def _fraction(
    density: UniformTime | LogitNormalTime, uniforms: Float[Tensor, " batch"]
) -> Float[Tensor, " batch"]:
    if isinstance(density, UniformTime):
        return uniforms
    return torch.sigmoid(density.mean + density.std * torch.special.ndtri(uniforms))
