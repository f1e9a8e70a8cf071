# SPDX-License-Identifier: Apache-2.0
"""Sampling of training times by inverse transform of uniform numbers."""

import torch
from jaxtyping import Float
from torch import Tensor

from pippin.diffusion.config import LogitNormalTime, UniformTime
from pippin.diffusion.schedules import NoiseSchedule
from pippin.types import Times


def draw_times(
    density: UniformTime | LogitNormalTime, uniforms: Times, schedule: NoiseSchedule
) -> Times:
    """Training times (float32) whose fraction of the path from clean to noise has the density.

    The fraction is u itself (uniform) or sigmoid(mean + std Phi^-1(u)) (logit-normal; Esser et
    al. 2024, section 3.1). A discrete schedule rounds it down to an index, so that uniform
    times are the integers 0..999 with equal probability; rectified flow uses t = 1000 fraction.

    Args:
        density: the configured density.
        uniforms: uniform numbers in [0, 1).
        schedule: the schedule that maps fractions to times.
    """
    return schedule.time_at(_fraction(density, uniforms.double())).float()


def _fraction(
    density: UniformTime | LogitNormalTime, uniforms: Float[Tensor, " batch"]
) -> Float[Tensor, " batch"]:
    if isinstance(density, UniformTime):
        return uniforms
    return torch.sigmoid(density.mean + density.std * torch.special.ndtri(uniforms))
