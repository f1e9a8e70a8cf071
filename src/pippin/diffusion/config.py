# SPDX-License-Identifier: Apache-2.0
"""Configuration of the diffusion process and its objective."""

from dataclasses import dataclass, field
from typing import Literal

from pippin.config import Config, ConfigError
from pippin.settings.bounds import above, at_least, within
from pippin.settings.marks import PROTOCOL_IF_CHANGED

ScheduleName = Literal["sd", "ldm-f4", "ddpm", "cosine", "flow", "gvp"]
PredictionType = Literal["eps", "v", "x0", "flow"]
CONTINUOUS_SCHEDULES: tuple[ScheduleName, ...] = ("flow", "gvp")
"""Schedules of real times from clean data to pure noise; the others have 1000 indices."""
VELOCITIES: tuple[tuple[ScheduleName, PredictionType], ...] = (("flow", "flow"), ("gvp", "v"))
"""Schedules with the prediction that is a positive multiple of dx_t / dt."""


@dataclass(frozen=True, kw_only=True)
class UniformTime(Config):
    """Uniform density of times."""

    kind: Literal["uniform"] = "uniform"


@dataclass(frozen=True, kw_only=True)
class LogitNormalTime(Config):
    """logit(t / 1000) is normal (Esser et al. 2024, section 3.1)."""

    kind: Literal["logit-normal"] = "logit-normal"
    mean: float = 0.0
    std: float = 1.0

    def __post_init__(self) -> None:
        """Refuse a density without spread."""
        within(self, "diffusion.time_density", -1e3, 1e3, "mean")
        above(self, "diffusion.time_density", 0, "std")


@dataclass(frozen=True, kw_only=True)
class UniformWeight(Config):
    """The plain squared error of the prediction."""

    kind: Literal["uniform"] = "uniform"


@dataclass(frozen=True, kw_only=True)
class MinSNRWeight(Config):
    """The squared error of x0 weighted by min(SNR, gamma) (Hang et al. 2023)."""

    kind: Literal["min-snr"] = "min-snr"
    gamma: float = 5.0

    def __post_init__(self) -> None:
        """Refuse a zero or negative gamma."""
        above(self, "diffusion.loss_weight", 0, "gamma")


@dataclass(frozen=True, kw_only=True)
class VelocityWeight(Config):
    """The squared error of the velocity eps - x0 of any prediction but eps (Li & He 2025)."""

    kind: Literal["velocity"] = "velocity"
    floor: float = 0.05
    """Smallest sigma that the error of x0 is divided by."""

    def __post_init__(self) -> None:
        """Refuse a division by 0, and a floor above every sigma."""
        above(self, "diffusion.loss_weight", 0, "floor")
        within(self, "diffusion.loss_weight", 0, 1, "floor")


LossWeight = UniformWeight | MinSNRWeight | VelocityWeight


@dataclass(frozen=True, kw_only=True)
class DiffusionConfig(Config):
    """Noise schedule, prediction type, time density and loss weight."""

    schedule: ScheduleName = "sd"
    """sd: scaled-linear 0.00085-0.012; ldm-f4: scaled-linear 0.0015-0.0195; ddpm: linear
    0.0001-0.02; cosine (Nichol & Dhariwal 2021); flow: rectified flow; gvp: SiT's
    generalised variance-preserving path, a quarter turn from data to noise."""
    rescale: float = 1.0
    """s: scale factor from the resolution that the schedule was made for; every index then has
    SNR / s^2, so that the content sees the same noise as there. 1 = unchanged."""
    prediction: PredictionType = "eps"
    time_density: UniformTime | LogitNormalTime = UniformTime()
    loss_weight: LossWeight = UniformWeight()
    direction_weight: float = field(default=0.0, metadata=PROTOCOL_IF_CHANGED)
    """Weight of the direction loss, 1 - cosine similarity of predicted and true velocity over the
    channels of each latent pixel; published: 1 (LightningDiT, Yao et al. 2025). 0 = none."""

    def __post_init__(self) -> None:
        """Refuse a zero or negative scale factor, and weights that the prediction has not."""
        above(self, "diffusion", 0, "rescale")
        at_least(self, "diffusion", 0, "direction_weight")
        if self.direction_weight and (self.schedule, self.prediction) not in VELOCITIES:
            raise ConfigError(
                "diffusion.direction_weight is for predictions of the velocity, flow under "
                f"diffusion.schedule flow and v under gvp; got {self.direction_weight} with "
                f"prediction {self.prediction} under {self.schedule}: set "
                "--diffusion.direction-weight 0, or --diffusion.schedule flow and "
                "--diffusion.prediction flow"
            )
        if self.prediction == "eps" and isinstance(self.loss_weight, VelocityWeight):
            raise ConfigError(
                "diffusion.loss_weight velocity has no limit for diffusion.prediction eps, whose "
                "x0 is undetermined in pure noise; set diffusion.prediction to x0, v or flow"
            )
