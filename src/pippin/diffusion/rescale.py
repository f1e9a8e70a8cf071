# SPDX-License-Identifier: Apache-2.0
"""Noise schedules for another resolution, with the signal-to-noise ratio of the content kept.

At s times the side, a patch of content is averaged over s^2 values, so the same noise hides less
of it. The rule SNR'(t) = SNR(t) / s^2 (Berrada et al. 2024, arXiv 2411.03177) undoes that:

    abar'(t) = abar(t) / (s^2 - abar(t) (s^2 - 1))       for a variance-preserving schedule,
    u' = s u / (1 + (s - 1) u), u = t / 1000             for rectified flow, where sigma = u'

(the second is SD3's shift of time: Esser et al. 2024, arXiv 2403.03206, section 5.3.2). Networks
and gates keep reading the index t; only the noise level of an index changes.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from pippin.config import ConfigError
from pippin.diffusion.config import CONTINUOUS_SCHEDULES, DiffusionConfig
from pippin.diffusion.schedules import NoiseSchedule, Spacing, cast_like, make_schedule

BASE_NUMBERS = 4096
"""Numbers in a latent of Stable Diffusion's autoencoder at 256 pixels, 4 x 32 x 32."""


def rescale_for_numbers(numbers: int) -> float:
    """s = sqrt(numbers / 4096), ``diffusion.rescale`` for latents of many channels (Zheng et al.
    2025, arXiv 2510.11690, which shifts the times of rectified flow by it: Esser et al. 2024's
    rule with the numbers of a latent, channels included, in the place of its positions).

    Args:
        numbers: channels x height x width.

    Raises:
        ValueError: a number below 1.
    """
    if numbers < 1:
        raise ValueError(f"latents have at least one number; got {numbers}")
    return math.sqrt(numbers / BASE_NUMBERS)


class RescaledSchedule(NoiseSchedule):
    """Schedule with the log-SNR of a base schedule lowered by 2 log s at every index.

    Args:
        base: the schedule at the resolution that it was made for.
        ratio: s, the scale factor from that resolution.
    """

    def __init__(self, base: NoiseSchedule, ratio: float) -> None:
        self.base, self.ratio = base, ratio
        self.max_time, self.variance_preserving = base.max_time, base.variance_preserving
        self._drop = 2 * math.log(ratio)

    def log_snr(self, t: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Log-SNR of the base minus 2 log s."""
        return cast_like(self.base.log_snr(t.double()) - self._drop, t)

    def time(self, log_snr: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Inverse of :meth:`log_snr`; values beyond the ends give the end's time."""
        return cast_like(self.base.time(log_snr.double() + self._drop), log_snr)

    def time_at(self, fraction: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Same as the base: indices stay."""
        return self.base.time_at(fraction)

    def times(self, steps: int, spacing: Spacing = "trailing") -> Float[Tensor, " steps"]:
        """Same as the base: indices stay."""
        return self.base.times(steps, spacing)


def build_schedule(config: DiffusionConfig) -> NoiseSchedule:
    """Build the schedule of a configuration, rescaled if configured.

    Raises:
        ConfigError: a discrete schedule rescaled to a lower resolution, whose noisiest index would
            hold more signal than before.
    """
    base = make_schedule(config.schedule)
    if config.rescale == 1:
        return base
    rescaled = RescaledSchedule(base, config.rescale)
    if config.rescale < 1 and config.schedule not in CONTINUOUS_SCHEDULES:
        end = torch.tensor(base.max_time, dtype=torch.float64)
        before, after = (float(schedule.log_snr(end)) for schedule in (base, rescaled))
        raise ConfigError(
            f"diffusion.rescale {config.rescale:g} would leave the noisiest index of the schedule "
            f"{config.schedule} a log-SNR of {after:.2f} instead of {before:.2f}, so that "
            "training never shows the pure noise that sampling starts from: give 1 or more, or "
            "the schedule flow or gvp, which ends in pure noise at any scale"
        )
    return rescaled
