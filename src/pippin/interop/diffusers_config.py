# SPDX-License-Identifier: Apache-2.0
"""Conversion of configurations between diffusers' model classes and pippin."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from pippin.interop.arguments import Arguments, ModelSpec
from pippin.interop.diffusers_checks import require_supported
from pippin.interop.diffusers_schedulers import from_scheduler
from pippin.interop.diffusers_transformers import (
    read_dit,
    read_mmdit,
    read_pixart,
    write_dit,
    write_mmdit,
    write_pixart,
)
from pippin.interop.diffusers_unet import read_unet, write_unet
from pippin.system.weight_checks import refuse_quantisation


@dataclass(frozen=True, kw_only=True)
class ModelClass:
    """Model class of diffusers."""

    kind: str
    """Kind of pippin's denoiser."""
    folder: str
    """Name of the component in pipelines."""
    read: Callable[[Arguments], ModelSpec]
    write: Callable[[ModelSpec], dict[str, Any]]


CLASSES = {
    "DiTTransformer2DModel": ModelClass(
        kind="dit", folder="transformer", read=read_dit, write=write_dit
    ),
    "PixArtTransformer2DModel": ModelClass(
        kind="pixart", folder="transformer", read=read_pixart, write=write_pixart
    ),
    "SD3Transformer2DModel": ModelClass(
        kind="mmdit", folder="transformer", read=read_mmdit, write=write_mmdit
    ),
    "UNet2DConditionModel": ModelClass(
        kind="unet", folder="unet", read=read_unet, write=write_unet
    ),
}


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
    conditioning, kind = model.conditioning, model.denoiser.kind
    names = [name for name, model_class in CLASSES.items() if model_class.kind == kind]
    require_supported(bool(names), f"denoiser.kind {kind}")
    control = conditioning.control
    fields = ", ".join((*control.high, *control.low))
    require_supported(not fields, f"conditioning.control ({fields})")
    if kind != "mmdit":
        require_supported(not getattr(model.denoiser, "qk_norm", False), "denoiser.qk_norm")
    if kind != "pixart":
        require_supported(not conditioning.image_shape, "conditioning.image_shape")
    return names[0], CLASSES[names[0]].write(model)
