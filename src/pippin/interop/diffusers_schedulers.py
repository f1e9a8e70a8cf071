# SPDX-License-Identifier: Apache-2.0
"""diffusers' schedulers as our diffusion processes, and back."""

from collections.abc import Mapping
from typing import Any

from pippin.config import ConfigError
from pippin.diffusion.config import DiffusionConfig, LogitNormalTime, PredictionType, ScheduleName

BETAS: dict[ScheduleName, tuple[str, float, float]] = {
    "sd": ("scaled_linear", 0.00085, 0.012),
    "ldm-f4": ("scaled_linear", 0.0015, 0.0195),
    "ddpm": ("linear", 0.0001, 0.02),
    "cosine": ("squaredcos_cap_v2", 0.0001, 0.02),
}
"""beta_schedule, beta_start, beta_end."""
PREDICTIONS: dict[PredictionType, str] = {
    "eps": "epsilon",
    "v": "v_prediction",
    "x0": "sample",
}


def of_scheduler(config: Mapping[str, Any]) -> DiffusionConfig:
    """The process that a scheduler_config.json describes.

    Raises:
        ValueError: one that we do not have; its values are named.
    """
    name = str(config.get("_class_name", ""))
    if name.startswith("FlowMatch"):
        return DiffusionConfig(schedule="flow", prediction="flow", time_density=LogitNormalTime())
    betas = (
        config.get("beta_schedule", "linear"),
        config.get("beta_start", 0.0001),
        config.get("beta_end", 0.02),
    )
    kind = config.get("prediction_type", "epsilon")
    schedules = [ours for ours, theirs in BETAS.items() if theirs == betas]
    if betas[0] == "squaredcos_cap_v2":
        schedules = ["cosine"]
    predictions = [ours for ours, theirs in PREDICTIONS.items() if theirs == kind]
    odd = config.get("num_train_timesteps", 1000) != 1000 or config.get("trained_betas")
    if not schedules or not predictions or odd or config.get("rescale_betas_zero_snr"):
        listed = "; ".join(" ".join(map(str, theirs)) for theirs in BETAS.values())
        raise ValueError(
            f"scheduler {name or 'without a name'} is not supported: betas {betas}, prediction "
            f"{kind!r}; supported are 1000 times, betas {listed}, predictions "
            f"{', '.join(PREDICTIONS.values())}, and FlowMatch schedulers"
        )
    return DiffusionConfig(schedule=schedules[0], prediction=predictions[0])


def to_scheduler(diffusion: DiffusionConfig) -> dict[str, Any]:
    """scheduler_config.json of a process.

    Raises:
        ConfigError: a prediction that diffusers does not have on that schedule.
    """
    if diffusion.schedule == "flow":
        if diffusion.prediction != "flow":
            raise ConfigError(
                "diffusers' flow schedulers know diffusion.prediction flow only; got "
                f"{diffusion.prediction!r}"
            )
        return {
            "_class_name": "FlowMatchEulerDiscreteScheduler",
            "num_train_timesteps": 1000,
            "shift": 1.0,
        }
    if diffusion.prediction not in PREDICTIONS:
        raise ConfigError(
            f"diffusers has no prediction {diffusion.prediction!r} on the schedule "
            f"{diffusion.schedule!r}"
        )
    schedule, start, end = BETAS[diffusion.schedule]
    return {
        "_class_name": "DDIMScheduler",
        "num_train_timesteps": 1000,
        "beta_schedule": schedule,
        "beta_start": start,
        "beta_end": end,
        "prediction_type": PREDICTIONS[diffusion.prediction],
        "clip_sample": False,
        "set_alpha_to_one": True,
        "steps_offset": 0,
        "timestep_spacing": "trailing",
    }
