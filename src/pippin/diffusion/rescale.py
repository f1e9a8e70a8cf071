# SPDX-License-Identifier: Apache-2.0
"""The noise of another resolution: the signal-to-noise ratio that the content sees stays.

At s times the side, a patch of content is averaged over s^2 values, so the same noise hides less
of it. The rule SNR'(t) = SNR(t) / s^2 (Berrada et al. 2024, arXiv 2411.03177) undoes that:

    abar'(t) = abar(t) / (s^2 - abar(t) (s^2 - 1))       for a variance-preserving schedule,
    u' = s u / (1 + (s - 1) u), u = t / 1000             for rectified flow, where sigma = u'

(the second is SD3's shift of time: Esser et al. 2024, arXiv 2403.03206, section 5.3.2). Networks
and gates keep reading the index t; only what noise an index means has changed.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from pippin.config import ConfigError
from pippin.diffusion.config import DiffusionConfig
from pippin.diffusion.schedules import NoiseSchedule, Spacing, like, make_schedule


class RescaledSchedule(NoiseSchedule):
    """Another schedule with its log-SNR lowered by 2 log s at every index.

    Args:
        base: the schedule of the resolution that it was made for.
        ratio: s, the side over that resolution's side.
    """

    def __init__(self, base: NoiseSchedule, ratio: float) -> None:
        self.base, self.ratio = base, ratio
        self.max_time, self.variance_preserving = base.max_time, base.variance_preserving
        self._drop = 2 * math.log(ratio)

    def log_snr(self, t: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """That of the base less 2 log s."""
        return like(self.base.log_snr(t.double()) - self._drop, t)

    def time(self, log_snr: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """The inverse of :meth:`log_snr`; a value beyond the ends gives the end's time."""
        return like(self.base.time(log_snr.double() + self._drop), log_snr)

    def time_at(self, fraction: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """The base's: indices stay."""
        return self.base.time_at(fraction)

    def times(self, steps: int, spacing: Spacing = "trailing") -> Float[Tensor, " steps"]:
        """The base's: indices stay."""
        return self.base.times(steps, spacing)


def build_schedule(config: DiffusionConfig) -> NoiseSchedule:
    """The schedule of a configuration, rescaled where it says so.

    Raises:
        ConfigError: a discrete schedule rescaled to a smaller side, whose noisiest index would
            hold more signal than it was made for.
    """
    base = make_schedule(config.schedule)
    if config.rescale == 1:
        return base
    found = RescaledSchedule(base, config.rescale)
    if config.rescale < 1 and base.variance_preserving:
        end = torch.tensor(base.max_time, dtype=torch.float64)
        before, after = (float(one.log_snr(end)) for one in (base, found))
        raise ConfigError(
            f"diffusion.rescale {config.rescale:g} would leave the noisiest index of the schedule "
            f"{config.schedule} a log-SNR of {after:.2f} instead of {before:.2f}, so that "
            "sampling from pure noise is no state that training shows: give 1 or more, or the "
            "schedule flow, which ends in pure noise at any scale"
        )
    return found
