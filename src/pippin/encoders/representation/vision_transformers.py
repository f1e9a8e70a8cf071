# SPDX-License-Identifier: Apache-2.0
"""Vision transformers of the library transformers as frozen encoders: DINOv2, SigLIP, ViT-MAE.

Features are the patch tokens after the last normalisation, whose affine is removed: each token has
mean 0 and variance 1 over its channels (Zheng et al. 2025, arXiv 2510.11690, and their code).
"""

import json
import math
from pathlib import Path
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from pippin.encoders.hub import (
    describe_load_errors,
    load_weights,
    model_config,
    model_folder,
    transformers_library,
)
from pippin.encoders.representation.frozen import TRANSFORMERS, FrozenEncoder
from pippin.system.formats import AGAIN, ENTRY_ERRORS, read_foreign_json
from pippin.types import Pixels

PREPROCESSOR = "preprocessor_config.json"
IMAGENET = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
"""Mean and standard deviation of red, green and blue in [0, 1], where a folder states none."""


class ModelType(NamedTuple):
    """Differences between the supported models."""

    class_name: str
    """Class of the library."""
    norm: str
    """Name of the last normalisation."""
    leading: int
    """Tokens before the patches, apart from registers."""


VIT_MAE = "vit_mae"
MODEL_TYPES = {
    "dinov2": ModelType("Dinov2Model", "layernorm", 1),
    "dinov2_with_registers": ModelType("Dinov2WithRegistersModel", "layernorm", 1),
    "siglip_vision_model": ModelType("SiglipVisionModel", "post_layernorm", 0),
    VIT_MAE: ModelType("ViTMAEModel", "layernorm", 1),
}
"""``model_type`` of config.json -> how its patch tokens are read."""


class VisionTransformer(FrozenEncoder):
    """Patch tokens of a vision transformer on a grid.

    Positions are interpolated to the grid of the input, as the library does.

    Args:
        model: model of the library, whose last normalisation loses its affine.
        settings: kind, mean and std of red, green and blue in [0, 1], by which the input is
            normalised, and config, the model's configuration. They are kept as they were first
            written: another version of the library may add entries.
    """

    def __init__(self, model: Any, settings: dict[str, Any]) -> None:
        super().__init__()
        self._settings = settings
        self.model_type: str = model.config.model_type
        about = MODEL_TYPES[self.model_type]
        self._leading = about.leading + getattr(model.config, "num_register_tokens", 0)
        self.stride, self.channels = model.config.patch_size, model.config.hidden_size
        if getattr(model, "use_head", False):  # SigLIP's pooled output
            model.use_head = False
            del model.head
        self.model = model
        _remove_affine(getattr(model, about.norm))

    @classmethod
    def pretrained(cls, source: str) -> "VisionTransformer":
        """The encoder with the weights of a folder, or of a name of the hub.

        Raises:
            ValueError: no such model, another type of model, damaged files, or transformers is not
                installed.
        """
        folder = model_folder(source, "representation encoder")
        model_type = model_config(folder).get("model_type", "")
        _check_type(model_type, f"train.representation.source: {source!r}")
        library = transformers_library("the representation encoder")
        with describe_load_errors("the representation encoder", folder, "nothing else"):
            kind = getattr(library, MODEL_TYPES[model_type].class_name)
            model, _ = load_weights(kind, "the representation encoder", folder)
        if model_type == VIT_MAE:
            model.config.mask_ratio = 0.0  # published ones drop 75 % of the patches
        mean, std = _preprocessing(folder)
        config = {k: v for k, v in model.config.to_dict().items() if k not in RUNTIME}
        settings = {"kind": TRANSFORMERS, "mean": mean, "std": std, "config": config}
        return cls(model, json.loads(json.dumps(settings)))

    @classmethod
    def empty(cls, settings: dict[str, Any]) -> "VisionTransformer":
        """The encoder of :attr:`settings` with random weights, to be loaded.

        Raises:
            KeyError, TypeError: entries are missing, or of another type.
            ValueError: another type of model, settings that do not fit it, or transformers is not
                installed.
        """
        values, what = dict(settings["config"]), "the frozen encoder of this autoencoder"
        model_type = values.pop("model_type", "")
        _check_type(model_type, what)
        _check_statistics(settings["mean"], settings["std"], f"{what}, entry encoder")
        library = transformers_library(what)
        try:
            config = library.AutoConfig.for_model(model_type, **values)
            with torch.random.fork_rng(devices=[]):
                model = getattr(library, MODEL_TYPES[model_type].class_name)(config)
        except Exception as error:  # the library raises many types for settings that do not fit
            reason = " ".join(str(error).split())
            raise ValueError(
                f"entry encoder describes no {model_type} ({type(error).__name__}: {reason}); "
                "download or save the folder again"
            ) from error
        return cls(model, settings)

    @property
    def settings(self) -> dict[str, Any]:
        """See :class:`FrozenEncoder`."""
        return self._settings

    def forward(self, pixels: Pixels) -> Float[Tensor, "batch channels rows columns"]:
        """See :class:`FrozenEncoder`."""
        grid = (pixels.shape[2] // self.stride, pixels.shape[3] // self.stride)
        mean, std = (
            pixels.new_tensor(self._settings[name])[:, None, None] for name in ("mean", "std")
        )
        arguments: dict[str, Any] = {"pixel_values": ((pixels + 1) / 2 - mean) / std}
        if not self.model_type.startswith("dinov2"):  # which always interpolates
            arguments["interpolate_pos_encoding"] = True
        if self.model_type == VIT_MAE:  # in order, and with all patches
            order = torch.arange(grid[0] * grid[1], device=pixels.device, dtype=pixels.dtype)
            arguments["noise"] = order.expand(len(pixels), -1)
        tokens = self.model(**arguments).last_hidden_state[:, self._leading :]
        return tokens.transpose(1, 2).unflatten(2, grid)


RUNTIME = ("_name_or_path", "transformers_version", "dtype", "torch_dtype", "architectures")
"""Entries of a model's configuration that say nothing about its outputs."""


def _remove_affine(norm: nn.LayerNorm) -> None:
    norm.weight.data.fill_(1)
    norm.bias.data.zero_()


def _check_type(model_type: Any, where: str) -> None:
    if str(model_type) in MODEL_TYPES:
        return
    advice = "such as facebook/dinov2-with-registers-base"
    if model_type == "siglip":
        advice = (
            "such as the vision model of this SigLIP: save it by "
            "transformers.SiglipVisionModel.from_pretrained(NAME).save_pretrained(FOLDER), copy "
            f"{PREPROCESSOR} to FOLDER, and give FOLDER"
        )
    raise ValueError(
        f"{where} is a {model_type!r} model; give a model of type {', '.join(MODEL_TYPES)} in "
        f"transformers' format, {advice}"
    )


def _preprocessing(folder: Path) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of preprocessor_config.json, or ImageNet's."""
    path = folder / PREPROCESSOR
    values = read_foreign_json(path) if path.is_file() else {}
    mean, std = values.get("image_mean", IMAGENET[0]), values.get("image_std", IMAGENET[1])
    _check_statistics(mean, std, f"{path}, image_mean and image_std")
    return list(map(float, mean)), list(map(float, std))


def _check_statistics(mean: Any, std: Any, where: str) -> None:
    """Refuse anything but three finite means and three finite deviations above 0."""
    try:
        means, deviations = list(map(float, mean)), list(map(float, std))
    except ENTRY_ERRORS:
        means, deviations = [], []
    finite = all(map(math.isfinite, (*means, *deviations)))
    if len(means) != 3 or len(deviations) != 3 or not finite or min(deviations) <= 0:
        raise ValueError(
            f"{where}: mean and deviation of red, green and blue must be three numbers each, the "
            f"latter above 0; got {mean!r} and {std!r}: {AGAIN}"
        )
