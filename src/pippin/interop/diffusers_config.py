# SPDX-License-Identifier: Apache-2.0
"""Configurations of diffusers' model classes as ours, and back."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from pippin.interop.arguments import Arguments, Configured
from pippin.interop.diffusers_refusals import refuse_unless
from pippin.interop.diffusers_schedulers import of_scheduler
from pippin.interop.diffusers_transformers import (
    from_dit,
    from_mmdit,
    from_pixart,
    of_dit,
    of_mmdit,
    of_pixart,
)
from pippin.interop.diffusers_unet import from_unet, of_unet
from pippin.system.weight_checks import refuse_quantisation


@dataclass(frozen=True, kw_only=True)
class ModelClass:
    """A model class of diffusers."""

    kind: str
    """Of our denoiser."""
    folder: str
    """What pipelines call the part."""
    read: Callable[[Arguments], Configured]
    write: Callable[[Configured], dict[str, Any]]


CLASSES = {
    "DiTTransformer2DModel": ModelClass(
        kind="dit", folder="transformer", read=of_dit, write=from_dit
    ),
    "PixArtTransformer2DModel": ModelClass(
        kind="pixart", folder="transformer", read=of_pixart, write=from_pixart
    ),
    "SD3Transformer2DModel": ModelClass(
        kind="mmdit", folder="transformer", read=of_mmdit, write=from_mmdit
    ),
    "UNet2DConditionModel": ModelClass(kind="unet", folder="unet", read=of_unet, write=from_unet),
}


_TODAY = {
    "ada_norm_zero": "DiTTransformer2DModel",
    "ada_norm_single": "PixArtTransformer2DModel",
}
"""norm_type -> what the class Transformer2DModel became, which older folders still name."""


def read_config(config: Mapping[str, Any], scheduler: Mapping[str, Any] | None) -> Configured:
    """What a config.json of diffusers describes.

    Args:
        config: of the model.
        scheduler: scheduler_config.json; None = the process that the class was published with.

    Raises:
        ValueError: a class, an argument or a scheduler that we do not have; it is named.
    """
    name = str(config.get("_class_name"))
    refuse_quantisation(config, f"diffusers' {name}")
    given = {key: value for key, value in config.items() if not key.startswith("_")}
    if name == "Transformer2DModel":
        name, given = _today(given)
    if name not in CLASSES:
        raise ValueError(f"diffusers' {name} is not supported; only {', '.join(CLASSES)}")
    arguments = Arguments(name, given)
    arguments.ignore("decay", "inv_gamma", "min_decay", "optimization_step", "power")
    arguments.ignore("update_after_step", "use_ema_warmup")  # of diffusers' averaged weights
    found = CLASSES[name].read(arguments)
    arguments.done()
    return found if scheduler is None else replace(found, diffusion=of_scheduler(scheduler))


def _today(given: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Class and arguments of a folder of the class Transformer2DModel."""
    name = _TODAY.get(str(given.get("norm_type")), "Transformer2DModel")
    neutral: dict[str, Any] = {"num_vector_embeds": None} | dict.fromkeys(
        ("only_cross_attention", "double_self_attention", "use_linear_projection"), False
    )
    if name == "DiTTransformer2DModel":
        neutral |= {"cross_attention_dim": None, "attention_type": "default"}
    for key, value in neutral.items():
        if given.get(key, value) != value:
            raise ValueError(f"{name}: {key}={given[key]!r} is not supported; only {value!r}")
    return name, {key: value for key, value in given.items() if key not in neutral}


def write_config(model: Configured) -> tuple[str, dict[str, Any]]:
    """The class of diffusers and its arguments.

    Raises:
        ConfigError: diffusers' classes cannot say what this model is; the setting is named.
    """
    conditioning, kind = model.conditioning, model.denoiser.kind
    names = [name for name, known in CLASSES.items() if known.kind == kind]
    refuse_unless(bool(names), f"denoiser.kind {kind}")
    control = conditioning.control
    fields = ", ".join((*control.high, *control.low))
    refuse_unless(not fields, f"conditioning.control ({fields})")
    if kind != "mmdit":
        refuse_unless(not getattr(model.denoiser, "qk_norm", False), "denoiser.qk_norm")
    if kind != "pixart":
        refuse_unless(not conditioning.image_shape, "conditioning.image_shape")
    return names[0], CLASSES[names[0]].write(model)
