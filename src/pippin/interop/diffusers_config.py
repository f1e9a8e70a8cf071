# SPDX-License-Identifier: Apache-2.0
"""Configurations between diffusers' model classes and schedulers and pippin."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from pippin.config import ConfigError
from pippin.denoisers.dit.diffusers import DIFFUSERS as DIT
from pippin.denoisers.mmdit.diffusers import DIFFUSERS as MMDIT
from pippin.denoisers.pixart.diffusers import DIFFUSERS as PIXART
from pippin.denoisers.unet.diffusers import DIFFUSERS as UNET
from pippin.denoisers.weights.arguments import Arguments, ModelSpec
from pippin.denoisers.weights.diffusers_layers import require_supported
from pippin.denoisers.weights.formats import DiffusersFormat
from pippin.diffusion.config import DiffusionConfig, LogitNormalTime, PredictionType, ScheduleName
from pippin.system.weight_checks import refuse_quantisation

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
    if diffusion.prediction not in PREDICTIONS or diffusion.schedule not in BETAS:
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


CLASSES = {model_class.name: model_class for model_class in (DIT, PIXART, MMDIT, UNET)}
"""Model classes of diffusers by name."""


def class_of(kind: str) -> DiffusersFormat:
    """Model class of diffusers for a kind of denoiser.

    Raises:
        ConfigError: diffusers has none.
    """
    classes = {model_class.kind: model_class for model_class in CLASSES.values()}
    require_supported(kind in classes, f"denoiser.kind {kind}")
    return classes[kind]


_SUCCESSORS = {
    "ada_norm_zero": "DiTTransformer2DModel",
    "ada_norm_single": "PixArtTransformer2DModel",
}
"""norm_type -> successor of the class Transformer2DModel, which older folders still name."""


def read_config(config: Mapping[str, Any], scheduler: Mapping[str, Any] | None) -> ModelSpec:
    """Read a config.json of diffusers.

    Args:
        config: configuration of the model.
        scheduler: scheduler_config.json; None = the process that the class was published with.

    Raises:
        ValueError: an unsupported class, argument or scheduler; it is named.
    """
    name = str(config.get("_class_name"))
    refuse_quantisation(config, f"diffusers' {name}")
    settings = {key: value for key, value in config.items() if not key.startswith("_")}
    if name == "Transformer2DModel":
        name, settings = _successor(settings)
    if name not in CLASSES:
        raise ValueError(f"diffusers' {name} is not supported; only {', '.join(CLASSES)}")
    arguments = Arguments(name, settings)
    arguments.ignore("decay", "inv_gamma", "min_decay", "optimization_step", "power")
    arguments.ignore("update_after_step", "use_ema_warmup")  # of diffusers' averaged weights
    spec = CLASSES[name].read(arguments)
    arguments.check_all_used()
    return spec if scheduler is None else replace(spec, diffusion=from_scheduler(scheduler))


def _successor(settings: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Current class and arguments of a folder of the class Transformer2DModel."""
    name = _SUCCESSORS.get(str(settings.get("norm_type")), "Transformer2DModel")
    neutral: dict[str, Any] = {"num_vector_embeds": None} | dict.fromkeys(
        ("only_cross_attention", "double_self_attention", "use_linear_projection"), False
    )
    if name == "DiTTransformer2DModel":
        neutral |= {"cross_attention_dim": None, "attention_type": "default"}
    for key, value in neutral.items():
        if settings.get(key, value) != value:
            raise ValueError(f"{name}: {key}={settings[key]!r} is not supported; only {value!r}")
    return name, {key: value for key, value in settings.items() if key not in neutral}


def write_config(model: ModelSpec) -> tuple[str, dict[str, Any]]:
    """Class of diffusers and its arguments for a model.

    Raises:
        ConfigError: no class of diffusers can represent the model; the setting is named.
    """
    conditioning, model_class = model.conditioning, class_of(model.denoiser.kind)
    control = conditioning.control
    fields = ", ".join(control.fields)
    require_supported(not fields, f"conditioning.control ({fields})")
    require_supported(not conditioning.interval, "conditioning.interval (MeanFlow)")
    if not model_class.has_qk_norm:
        require_supported(not getattr(model.denoiser, "qk_norm", False), "denoiser.qk_norm")
    if not model_class.has_image_shape:
        require_supported(not conditioning.image_shape, "conditioning.image_shape")
    return model_class.name, model_class.write(model)
