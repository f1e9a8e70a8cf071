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
"""Different samplers of one process, which their betas and prediction type define."""
OF_SAMPLERS = (
    *("clip_sample", "thresholding", "set_alpha_to_one", "steps_offset", "timestep_spacing"),
    *("variance_type", "solver_order", "algorithm_type", "use_karras_sigmas", "skip_prk_steps"),
)
"""Settings that say how to sample, which a recipe of ours says in its own terms."""


def of_scheduler(config: Mapping[str, Any]) -> DiffusionConfig:
    """The process that a scheduler_config.json describes.

    Raises:
        ValueError: one that we do not have; its values are named.
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
    schedules = [ours for ours, theirs in BETAS.items() if theirs == betas]
    if betas[0] == "squaredcos_cap_v2":
        schedules = ["cosine"]
    if not schedules:
        raise _unsupported(name, f"betas {betas}")
    kind = config.get("prediction_type", "epsilon")
    predictions = [ours for ours, theirs in PREDICTIONS.items() if theirs == kind]
    if not predictions:
        raise _unsupported(name, f"prediction_type {kind}")
    return DiffusionConfig(schedule=schedules[0], prediction=predictions[0])


def left_out(config: Mapping[str, Any]) -> list[str]:
    """What of a scheduler says how to sample and is therefore not taken over."""
    found = [f"{key} {config[key]}" for key in OF_SAMPLERS if config.get(key) is not None]
    if config.get("shift", 1.0) != 1.0:
        found.append(f"shift {config['shift']}")
    if config.get("use_dynamic_shifting"):
        found.append("use_dynamic_shifting")
    return found


def _unsupported(name: str, what: str) -> ValueError:
    listed = "; ".join(" ".join(map(str, theirs)) for theirs in BETAS.values())
    return ValueError(
        f"scheduler {name} is not supported, for {what}; supported are 1000 times, betas "
        f"{listed}, predictions {', '.join(PREDICTIONS.values())} ({', '.join(DISCRETE)}), and "
        f"{', '.join(FLOW)}"
    )


def to_scheduler(diffusion: DiffusionConfig) -> dict[str, Any]:
    """scheduler_config.json of a process.

    Raises:
        ConfigError: a prediction that diffusers does not have on that schedule, or a rescaled
            one: its networks are fed the shifted time, ours the index.
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
