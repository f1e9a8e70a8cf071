# SPDX-License-Identifier: Apache-2.0
"""Noise schedules: shares of data and noise in a state x_t.

x_t = alpha(t) x0 + sigma(t) eps. A schedule is defined by its log-SNR,
log(alpha^2 / sigma^2), as a function of t; alpha and sigma follow from it by the family's
constraint (alpha^2 + sigma^2 = 1, or alpha + sigma = 1 for rectified flow). A schedule that
changes only its log-SNR therefore overrides :meth:`NoiseSchedule.log_snr` and
:meth:`NoiseSchedule.time`, and nothing else.

All functions compute in float64. They return float64 for float64 input and float32 otherwise.
They compute where ``t`` lives.
"""

import math
from abc import ABC, abstractmethod
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from pippin.diffusion.config import ScheduleName
from pippin.system.device import to_device
from pippin.types import NUM_TIMES

Spacing = Literal["leading", "trailing", "linspace"]
"""Spacing of a sampler's times; see :meth:`NoiseSchedule.times`."""


class NoiseSchedule(ABC):
    """alpha, sigma and log-SNR as functions of the networks' time input t."""

    max_time: float
    """Noisiest time; the least noisy one is 0."""
    variance_preserving: bool
    """True: alpha^2 + sigma^2 = 1. False: alpha + sigma = 1."""

    @abstractmethod
    def log_snr(self, t: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """log(alpha^2 / sigma^2), falling in t.

        Raises:
            ValueError: a time outside [0, max_time].
        """

    @abstractmethod
    def time(self, log_snr: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Inverse of :meth:`log_snr`; values beyond the ends give the end's time."""

    @abstractmethod
    def time_at(self, fraction: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Time at a fraction in [0, 1] of the path from clean to noise.

        Discrete schedules give one of their indices, continuous ones any time.
        """

    @abstractmethod
    def times(self, steps: int, spacing: Spacing = "trailing") -> Float[Tensor, " steps"]:
        """Start times (float32, falling) of a sampler's steps.

        The last step ends at alpha = 1 and sigma = 0, which is not a time of a discrete schedule
        (index 0 still holds noise); no network is evaluated there.

        Raises:
            ValueError: an unsupported number of steps or spacing.
        """

    def alpha(self, t: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Factor of the data in x_t, in [0, 1]."""
        return cast_like(_factor(self.log_snr(t.double()), self.variance_preserving), t)

    def sigma(self, t: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Factor of the noise in x_t, in [0, 1]."""
        return cast_like(_factor(-self.log_snr(t.double()), self.variance_preserving), t)

    def _check_times(self, t: Tensor) -> None:
        """Refuse times outside the schedule, on the CPU only: the value of a GPU tensor would have
        to be waited for, and its times were drawn on the CPU. Compiled code does not check: a read
        value would break its graph."""
        if t.device.type != "cpu" or torch.compiler.is_compiling():
            return
        if not bool(((t >= 0) & (t <= self.max_time)).all()):
            raise ValueError(
                f"times must lie in [0, {self.max_time:g}], got "
                f"{t.min().item():g} to {t.max().item():g}"
            )


class DiscreteSchedule(NoiseSchedule):
    """A DDPM schedule of 1000 indices (Ho et al. 2020, eq. 4), extended to real times.

    alpha^2 at index i is the product of 1 - beta over 0..i. Between two indices the log-SNR is
    interpolated linearly.
    """

    max_time = float(NUM_TIMES - 1)
    variance_preserving = True

    def __init__(self, betas: Float[Tensor, "1000"]) -> None:
        log_alpha_squared = torch.log1p(-betas.double()).cumsum(0)
        table = log_alpha_squared - torch.log(-torch.expm1(log_alpha_squared))
        self._tables = {table.device: table}

    def _table(self, device: torch.device) -> Float[Tensor, "1000"]:
        """Log-SNR of each index, copied once to each device."""
        if device not in self._tables:
            with torch.inference_mode(False):  # training may use what a preview has copied
                self._tables[device] = to_device(self._tables[torch.device("cpu")], device)
        return self._tables[device]

    def log_snr(self, t: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Log-SNR, falling from index 0 to 999; finite everywhere."""
        self._check_times(t)
        table, exact = self._table(t.device), t.double()
        below = exact.floor().clamp(max=NUM_TIMES - 2).long()
        return cast_like(torch.lerp(table[below], table[below + 1], exact - below), t)

    def time(self, log_snr: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Real-valued time in [0, 999]."""
        table = self._table(log_snr.device)
        target = log_snr.double().clamp(table[-1], table[0])
        above = torch.searchsorted(-table, -target.contiguous()).clamp(1, NUM_TIMES - 1)
        start, end = table[above - 1], table[above]
        return cast_like(above - 1 + (start - target) / (start - end), log_snr)

    def time_at(self, fraction: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Index floor(1000 fraction); a fraction of 1 gives 999."""
        index = (fraction.double() * NUM_TIMES).floor().clamp(0, NUM_TIMES - 1)
        return cast_like(index, fraction)

    def times(self, steps: int, spacing: Spacing = "trailing") -> Float[Tensor, " steps"]:
        """Integer indices, with diffusers' meaning of the spacings.

        - trailing: starts at 999, the noisiest index (Lin et al. 2023, arXiv 2305.08891, table 2);
        - leading: multiples of 1000 // steps, plus 1 as in the code of latent diffusion
          (plus 0 for 1000 steps, which would leave the table);
        - linspace: from 999 to 0, both included; one step starts at 999.

        Raises:
            ValueError: steps outside [1, 1000].
        """
        _check_steps(steps, limit=NUM_TIMES)
        count = torch.arange(steps, dtype=torch.float64)
        if spacing == "trailing":
            times = torch.round(NUM_TIMES - count * (NUM_TIMES / steps)) - 1
        elif spacing == "leading":
            times = count.flip(0) * (NUM_TIMES // steps)
            times += 1 if times[0] < self.max_time else 0
        else:
            times = torch.linspace(self.max_time, 0, steps, dtype=torch.float64).round()
        return times.float()


class ContinuousSchedule(NoiseSchedule):
    """A schedule of real times from clean data, t = 0, to pure noise, t = 1000.

    At the ends the log-SNR is +inf and -inf, its true values; alpha, sigma and ``time`` are finite
    there.
    """

    max_time = float(NUM_TIMES)

    def time_at(self, fraction: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """1000 fraction."""
        return cast_like(NUM_TIMES * fraction.double(), fraction)

    def times(self, steps: int, spacing: Spacing = "trailing") -> Float[Tensor, " steps"]:
        """Times in equal steps from 1000 towards 0, the trailing spacing.

        Raises:
            ValueError: steps below 1, or another spacing.
        """
        _check_steps(steps, limit=None)
        if spacing != "trailing":
            raise ValueError(
                f"the schedules flow and gvp support only 'trailing' spacing, got {spacing!r}"
            )
        times = torch.linspace(NUM_TIMES, 0, steps + 1, dtype=torch.float64)[:-1]
        return times.float()


class GvpSchedule(ContinuousSchedule):
    """Generalised variance-preserving path of SiT (Ma et al. 2024, arXiv 2401.08740):
    sigma = sin(pi t / 2000), alpha = cos(pi t / 2000).

    The velocity of this path, with respect to t / 1000, is pi / 2 times the v prediction.
    """

    variance_preserving = True

    def log_snr(self, t: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """-2 log tan(pi t / 2000)."""
        self._check_times(t)
        angle = t.double() * (math.pi / 2 / NUM_TIMES)
        # The cosine of the rounded right angle is 6e-17, and pure noise must hold no data.
        alpha = torch.where(t == NUM_TIMES, 0, torch.cos(angle))
        return cast_like(2 * (torch.log(alpha) - torch.log(torch.sin(angle))), t)

    def time(self, log_snr: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Time in [0, 1000]."""
        angle = torch.atan(torch.exp(-log_snr.double() / 2))
        return cast_like(angle * (NUM_TIMES * 2 / math.pi), log_snr)


class FlowSchedule(ContinuousSchedule):
    """Rectified flow (Liu et al. 2022; Esser et al. 2024): sigma = t / 1000, alpha = 1 - sigma."""

    variance_preserving = False

    def log_snr(self, t: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """2 log((1 - sigma) / sigma)."""
        self._check_times(t)
        return cast_like(-2 * torch.special.logit(t.double() / NUM_TIMES), t)

    def time(self, log_snr: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Time in [0, 1000]."""
        return cast_like(NUM_TIMES * torch.sigmoid(-log_snr.double() / 2), log_snr)


def make_schedule(name: ScheduleName) -> NoiseSchedule:
    """Published schedule by name. :func:`pippin.diffusion.rescale.build_schedule` builds that
    of a recipe, rescaled if configured.

    - sd: sqrt(beta) linear from 0.00085 to 0.012 (Stable Diffusion, SDXL);
    - ldm-f4: sqrt(beta) linear from 0.0015 to 0.0195 (Rombach et al. 2022, ImageNet f4);
    - ddpm: beta linear from 0.0001 to 0.02 (Ho et al. 2020);
    - cosine: Nichol & Dhariwal 2021, eq. 17, betas clipped at 0.999;
    - flow: rectified flow;
    - gvp: alpha = cos(pi t / 2000), sigma = sin(pi t / 2000) (Ma et al. 2024).

    Raises:
        ValueError: an unknown name.
    """
    if name == "sd":
        return DiscreteSchedule(_scaled_linear(0.00085, 0.012))
    if name == "ldm-f4":
        return DiscreteSchedule(_scaled_linear(0.0015, 0.0195))
    if name == "ddpm":
        return DiscreteSchedule(torch.linspace(0.0001, 0.02, NUM_TIMES, dtype=torch.float64))
    if name == "cosine":
        return DiscreteSchedule(_cosine_betas())
    if name == "flow":
        return FlowSchedule()
    if name == "gvp":
        return GvpSchedule()
    raise ValueError(
        f"unknown schedule {name!r}; choose from: sd, ldm-f4, ddpm, cosine, flow, gvp"
    )


def _scaled_linear(first: float, last: float) -> Tensor:
    roots = torch.linspace(math.sqrt(first), math.sqrt(last), NUM_TIMES, dtype=torch.float64)
    return roots.square()


def _cosine_betas(offset: float = 0.008, largest: float = 0.999) -> Tensor:
    fraction = torch.arange(NUM_TIMES + 1, dtype=torch.float64) / NUM_TIMES
    alpha_squared = torch.cos((fraction + offset) / (1 + offset) * math.pi / 2).square()
    return (1 - alpha_squared[1:] / alpha_squared[:-1]).clamp(max=largest)


def _factor(log_ratio: Tensor, variance_preserving: bool) -> Tensor:
    """alpha or sigma from log(own^2 / other^2); correct at plus and minus inf too."""
    if variance_preserving:
        return torch.sigmoid(log_ratio).sqrt()
    return torch.sigmoid(log_ratio / 2)


def cast_like(result: Tensor, reference: Tensor) -> Tensor:
    """Cast a float64 result to the precision that schedules return for this input."""
    return result if reference.dtype == torch.float64 else result.float()


def _check_steps(steps: int, limit: int | None) -> None:
    if steps < 1 or (limit is not None and steps > limit):
        allowed = "at least 1" if limit is None else f"from 1 to {limit}"
        raise ValueError(f"the number of sampling steps must be {allowed}, got {steps}")
