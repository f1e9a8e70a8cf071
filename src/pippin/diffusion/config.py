# SPDX-License-Identifier: Apache-2.0
"""Configuration of the diffusion process and its objective."""

from dataclasses import dataclass, field, fields
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


@dataclass(frozen=True, kw_only=True)
class AdaptiveWeight(Config):
    """The squared error of each image over a power of itself, 1 / (||error||^2 + c)^p, as a
    constant (Geng et al. 2025, section 4.3)."""

    kind: Literal["adaptive"] = "adaptive"
    power: float = 1.0
    """p: 0 = the plain squared error, 1 = equal weight of every image."""
    offset: float = 0.01
    """c, added to the squared error, which is summed over the values of an image."""

    def __post_init__(self) -> None:
        """Refuse a negative power, and a division by 0."""
        within(self, "diffusion.loss_weight", 0, 2, "power")
        above(self, "diffusion.loss_weight", 0, "offset")


LossWeight = UniformWeight | MinSNRWeight | VelocityWeight | AdaptiveWeight


@dataclass(frozen=True, kw_only=True)
class MeanFlowConfig(Config):
    """MeanFlow (Geng et al. 2025, arXiv 2505.13447): the network predicts the mean velocity
    u(z, r, t) between two times, by which one step goes from noise to data."""

    share: float = 0.0
    """Share of the images with r < t; the others have r = t, which is flow matching. 0 = off, no
    MeanFlow; published: 0.25."""
    omega: float = 1.0
    """Weight of the image's own velocity in the guided velocity that is learnt, omega v + kappa
    u(conditional) + (1 - omega - kappa) u(unconditional). Its scale is omega / (1 - kappa)."""
    kappa: float = 0.0
    """Weight of the network's own conditional velocity there."""
    guided_times: tuple[float, float] = (0.0, 1.0)
    """Lowest and highest t / 1000 whose velocity is guided."""

    def __post_init__(self) -> None:
        """Refuse settings without an effect, and guidance without a scale."""
        within(self, "diffusion.meanflow", 0, 1, "share")
        above(self, "diffusion.meanflow", 0, "omega")
        changed = [f.name for f in fields(self) if getattr(self, f.name) != f.default]
        if not self.enabled and changed:
            raise ConfigError(
                f"diffusion.meanflow.{changed[0]} has no effect while diffusion.meanflow.share "
                f"is 0, which is off; got {getattr(self, changed[0])}: set "
                "--diffusion.meanflow.share 0.25, or leave it out"
            )
        if not 0 <= self.kappa < 1:
            raise ConfigError(
                "diffusion.meanflow.kappa must be 0 or more and below 1, since the scale of the "
                f"guidance is omega / (1 - kappa); got {self.kappa}"
            )
        low, high = self.guided_times
        if not 0 <= low < high <= 1:
            raise ConfigError(
                "diffusion.meanflow.guided_times must be two times of [0, 1], the lower one "
                f"first; got {low} {high}"
            )
        if self.guided_times != (0.0, 1.0) and not self.guided:
            raise ConfigError(
                "diffusion.meanflow.guided_times has no effect without guidance, at omega 1 and "
                f"kappa 0; got {low} {high}: set omega or kappa, or leave it out"
            )

    @property
    def enabled(self) -> bool:
        """Whether the network learns mean velocities."""
        return self.share > 0

    @property
    def guided(self) -> bool:
        """Whether the velocity that is learnt is guided."""
        return self.omega != 1 or self.kappa != 0


NO_MEANFLOW = MeanFlowConfig()


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
    meanflow: MeanFlowConfig = field(default=NO_MEANFLOW, metadata=PROTOCOL_IF_CHANGED)
    """Mean velocities instead of velocities, for samples of one or few steps."""

    def __post_init__(self) -> None:
        """Refuse a zero or negative scale factor, and weights or a mean velocity that the
        prediction does not support."""
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
        own = (self.schedule, self.prediction, self.rescale)
        if self.meanflow.enabled and own != ("flow", "flow", 1.0):
            raise ConfigError(
                "diffusion.meanflow needs diffusion.schedule flow, diffusion.prediction flow and "
                f"diffusion.rescale 1, where the velocity is eps - x0; got {own[0]}, {own[1]} and "
                f"{own[2]:g}: set them, or set --diffusion.meanflow.share 0"
            )
