# SPDX-License-Identifier: Apache-2.0
"""Times: random ones for training, a grid of them for sampling."""

import math
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from pippin.config import ConfigError
from pippin.diffusion.config import LogitNormalTime, UniformTime
from pippin.diffusion.schedules import NoiseSchedule, Spacing
from pippin.sampling.config import SamplingConfig
from pippin.types import NUM_TIMES, Times


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


class Point(NamedTuple):
    """A point of the time grid: x = alpha x0 + sigma eps at time t."""

    t: float
    alpha: float
    sigma: float
    scale: float
    """The ODE is integrated for x / scale over sigma / scale: alpha for variance-preserving
    schedules (Karras et al. 2022, eq. 4), alpha + sigma = 1 for rectified flow."""

    @property
    def half_log_snr(self) -> float:
        """log(alpha / sigma); infinite at the ends."""
        if self.alpha == 0:
            return -math.inf
        return math.inf if self.sigma == 0 else math.log(self.alpha / self.sigma)


def sampling_grid(
    schedule: NoiseSchedule, steps: int, spacing: Spacing = "trailing", shift: float = 1.0
) -> list[Point]:
    """steps + 1 points: the schedule's sampling times, then the clean end.

    Args:
        shift: s of :func:`shifted`; 1 = the times themselves.
    """
    times = schedule.times(steps, spacing).double()
    if shift != 1:
        times = shifted(times, shift)
    columns = (times, schedule.alpha(times), schedule.sigma(times))
    points = []
    for t, alpha, sigma in zip(*(column.tolist() for column in columns), strict=True):
        scale = alpha if schedule.variance_preserving else 1.0
        points.append(Point(t=t, alpha=alpha, sigma=sigma, scale=scale))
    return [*points, Point(t=0.0, alpha=1.0, sigma=0.0, scale=1.0)]


def shifted(times: Times, shift: float) -> Times:
    """Times t' = s t / (1 + (s - 1) t), t in units of 1000 (Esser et al. 2024, section 5.3.2).

    With 1 / s it is the same formula for times that run from noise to data, as LightningDiT's.
    """
    return shift * times / (1 + (shift - 1) * times / NUM_TIMES)


def build_grid(config: SamplingConfig, schedule: NoiseSchedule) -> list[Point]:
    """The time grid of a configuration.

    Raises:
        ValueError: a solver, a number of steps or a spacing that the schedule does not support.
    """
    if config.solver == "ddpm" and schedule.max_time == NUM_TIMES:
        raise ValueError(
            "sampling.solver ddpm needs a schedule of 1000 indices; the schedules flow and gvp "
            "are sampled with ddim (its other name is euler), heun, dpm++ or sde"
        )
    if config.time_shift != 1 and schedule.variance_preserving:
        raise ConfigError(
            f"sampling.time_shift {config.time_shift:g} is for rectified flow (diffusion.schedule "
            "flow): leave it at 1; sampling.spacing chooses the times of other schedules"
        )
    return sampling_grid(schedule, config.steps, config.spacing, config.time_shift)
