# SPDX-License-Identifier: Apache-2.0
"""Checks of settings of the objective against those of the model."""

from pippin.conditioning.config import ConditioningConfig
from pippin.config import ConfigError
from pippin.denoisers.config import DenoiserConfig, learns_variance
from pippin.diffusion.config import CONTINUOUS_SCHEDULES, DiffusionConfig


def check_objective(diffusion: DiffusionConfig, denoiser: DenoiserConfig) -> None:
    """Refuse a learned variance for a schedule without ancestral steps.

    Raises:
        ConfigError: a schedule without indices.
    """
    if learns_variance(denoiser) and diffusion.schedule in CONTINUOUS_SCHEDULES:
        raise ConfigError(
            "denoiser.learn_variance True needs a schedule of 1000 indices (sd, ldm-f4, ddpm, "
            f"cosine); diffusion.schedule {diffusion.schedule} has no ancestral step with a "
            "variance to learn"
        )


def meanflow_time_note(diffusion: DiffusionConfig, denoiser: DenoiserConfig) -> str | None:
    """Note on mean velocities of a network whose times run from 0 to 1000; None where none is
    needed. It is no error: weights of flow matching that read such times can be a start."""
    if not diffusion.meanflow.enabled or denoiser.time_input == "data":
        return None
    option = denoiser.data_time_option
    advice = (
        f"set {option}"
        if option
        else "set denoiser.kind to jit or ddt, or to dit with --denoiser.time-input data"
    )
    return (
        f"diffusion.meanflow.share is {diffusion.meanflow.share:g}, and denoiser {denoiser.kind} "
        "reads times in [0, 1000]: the derivative du/dt in its target is many times as large as "
        f"with times in [0, 1], which the published network reads; {advice}, unless the run "
        "starts from weights that read times in [0, 1000]"
    )


def check_meanflow(
    diffusion: DiffusionConfig, conditioning: ConditioningConfig, denoiser: DenoiserConfig
) -> None:
    """Refuse mean velocities without the embedding of their interval, the embedding without them,
    and guidance in the target by conditions that are never dropped.

    Raises:
        ConfigError: naming the settings.
    """
    meanflow, drop = diffusion.meanflow, conditioning.drop
    if meanflow.enabled != conditioning.interval:
        options = "--diffusion.meanflow.share 0.25 --conditioning.interval True"
        options += f" {option}" if (option := denoiser.data_time_option) else ""
        raise ConfigError(
            "diffusion.meanflow.share above 0 and conditioning.interval True, the embedding of "
            f"t - r, need each other; got {meanflow.share:g} and {conditioning.interval}: set "
            f"{options}, or leave out both"
        )
    if not meanflow.guided:
        return
    has_control = bool(conditioning.control.high or conditioning.control.low)
    dropped = drop.both if has_control else drop.semantic + drop.both
    if not conditioning.rules or not dropped > 0:
        share = "both" if has_control else "semantic"
        raise ConfigError(
            f"diffusion.meanflow.omega {meanflow.omega:g} and kappa {meanflow.kappa:g} guide by "
            f"semantics that training drops; here conditioning.drop.{share} is {dropped:g} and "
            f"conditioning.rules are {dict(conditioning.rules)}: set --conditioning.drop.{share} "
            "0.1 and keep 0.9, or omega 1 and kappa 0"
        )
