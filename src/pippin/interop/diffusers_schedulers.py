# SPDX-License-Identifier: Apache-2.0
"""Conversion between diffusers' schedulers and pippin's diffusion processes."""

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


FLOW = ("FlowMatchEulerDiscreteScheduler", "FlowMatchHeunDiscreteScheduler")
DISCRETE = tuple(
    f"{name}Scheduler"
    for name in (
        *("DDPM", "DDIM", "PNDM", "LCM", "DEISMultistep", "UniPCMultistep"),
        *("DPMSolverMultistep", "DPMSolverSinglestep", "DPMSolverSDE"),
        *("EulerDiscrete", "EulerAncestralDiscrete", "LMSDiscrete", "HeunDiscrete"),
        *("KDPM2Discrete", "KDPM2AncestralDiscrete"),
    )
)
"""Samplers of the same process, which betas and prediction type define."""
SAMPLING_SETTINGS = (
    *("clip_sample", "thresholding", "set_alpha_to_one", "steps_offset", "timestep_spacing"),
    *("variance_type", "solver_order", "algorithm_type", "use_karras_sigmas", "skip_prk_steps"),
)
"""Settings of sampling, for which a recipe has its own settings."""


def from_scheduler(config: Mapping[str, Any]) -> DiffusionConfig:
    """Diffusion process of a scheduler_config.json.

    Raises:
        ValueError: an unsupported process; its values are named.
    """
    name = str(config.get("_class_name", "without a name"))
    if config.get("num_train_timesteps", 1000) != 1000:
        raise _unsupported(name, f"num_train_timesteps {config['num_train_timesteps']}")
    if config.get("timestep_type") == "continuous":
        raise _unsupported(name, "timestep_type continuous")
    if name in FLOW:
        if config.get("invert_sigmas"):
            raise _unsupported(name, "invert_sigmas True, times that run the other way")
        return DiffusionConfig(schedule="flow", prediction="flow", time_density=LogitNormalTime())
    if name not in DISCRETE:
        raise _unsupported(name, "its class")
    for key in ("trained_betas", "rescale_betas_zero_snr", "snr_shift_scale"):
        if config.get(key):
            raise _unsupported(name, f"{key} {config[key]}")
    betas = tuple(config.get(key) for key in ("beta_schedule", "beta_start", "beta_end"))
    schedules = [schedule for schedule, parameters in BETAS.items() if parameters == betas]
    if betas[0] == "squaredcos_cap_v2":
        schedules = ["cosine"]
    if not schedules:
        raise _unsupported(name, f"betas {betas}")
    kind = config.get("prediction_type", "epsilon")
    predictions = [schedule for schedule, parameters in PREDICTIONS.items() if parameters == kind]
    if not predictions:
        raise _unsupported(name, f"prediction_type {kind}")
    return DiffusionConfig(schedule=schedules[0], prediction=predictions[0])


def sampling_settings(config: Mapping[str, Any]) -> list[str]:
    """Settings of a scheduler that only affect sampling, and are therefore skipped."""
    settings = [f"{key} {config[key]}" for key in SAMPLING_SETTINGS if config.get(key) is not None]
    if config.get("shift", 1.0) != 1.0:
        settings.append(f"shift {config['shift']}")
    if config.get("use_dynamic_shifting"):
        settings.append("use_dynamic_shifting")
    return settings


def _unsupported(name: str, what: str) -> ValueError:
    listed = "; ".join(" ".join(map(str, parameters)) for parameters in BETAS.values())
    return ValueError(
        f"scheduler {name} is not supported, for {what}; supported are 1000 times, betas "
        f"{listed}, predictions {', '.join(PREDICTIONS.values())} ({', '.join(DISCRETE)}), and "
        f"{', '.join(FLOW)}"
    )


def to_scheduler(diffusion: DiffusionConfig) -> dict[str, Any]:
    """Content of scheduler_config.json for a process.

    Raises:
        ConfigError: a prediction that diffusers does not have on that schedule, or a rescaled
            schedule: diffusers' networks read the shifted time, pippin's the index.
    """
    if diffusion.rescale != 1:
        raise ConfigError(
            f"diffusers has no scheduler for diffusion.rescale {diffusion.rescale:g}; export "
            "without --to keeps everything"
        )
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
