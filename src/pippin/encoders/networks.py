# SPDX-License-Identifier: Apache-2.0
"""Networks of diffusers' autoencoder classes: loading, encoding and decoding of single images."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch.nn.functional as F
from diffusers import __version__ as diffusers_version
from jaxtyping import Float
from safetensors import SafetensorError
from torch import Tensor, nn

from pippin.encoders.classes import (
    CLASSES,
    OWN_CLASSES,
    PIXEL_CLASS,
    REPRESENTATION_CLASS,
    AutoencoderClass,
    find_class,
)
from pippin.encoders.network_classes import class_defaults, network_class, plain_values
from pippin.encoders.normalisation import AFFINE_SETTINGS, ARCHITECTURE
from pippin.encoders.pixels import PixelNetwork
from pippin.encoders.representation.network import read_representation
from pippin.encoders.source import damaged, read_config
from pippin.system.formats import ENTRY_ERRORS
from pippin.system.weight_checks import (
    check_finite,
    join_names,
    refuse_quantisation,
    refuse_quantised,
)
from pippin.system.weight_files import stored_types
from pippin.system.weight_folders import find_weights
from pippin.types import Moments, Pixels

LOAD_ERRORS = (OSError, TypeError, ValueError, ArithmeticError, RuntimeError)
"""Errors that diffusers raises for a damaged config.json or damaged weights."""
LISTED_CLASSES = ("AutoencoderKL", *OWN_CLASSES)
"""Classes whose settings of the architecture are :data:`ARCHITECTURE`."""
NO_ARCHITECTURE = (
    *AFFINE_SETTINGS,
    *("sample_size", "force_upcast", "scale_factor_spatial", "scale_factor_temporal"),
)
"""Settings that do not change the outputs of a network."""


def network_kind(network: nn.Module) -> AutoencoderClass:
    """Class of a network.

    Raises:
        ValueError: it is not supported.
    """
    return find_class({"_class_name": type(network).__name__})


def encode_raw(network: Any, kind: AutoencoderClass, pixels: Pixels) -> Moments:
    """Posterior of raw latents, or the latents of a deterministic encoder."""
    inputs = pixels.unsqueeze(2) if kind.reads_frames else pixels
    output = network.encode(inputs)
    if kind.output == "latent_dist":
        mean, std = output.latent_dist.mean, output.latent_dist.std
    else:
        mean, std = output.latent if kind.output == "latent" else output.latents, None
    if kind.reads_frames:
        mean, std = mean.squeeze(2), std.squeeze(2)
    if (side := kind.fold(network.config)) > 1:
        mean, std = F.pixel_unshuffle(mean, side), F.pixel_unshuffle(std, side)
    return Moments(mean=mean, std=std)


def decode_raw(
    network: Any,
    kind: AutoencoderClass,
    latents: Float[Tensor, "batch channels latent_height latent_width"],
) -> Pixels:
    """Pixels of raw latents, not clamped."""
    if (side := kind.fold(network.config)) > 1:
        latents = F.pixel_shuffle(latents, side)
    inputs = latents.unsqueeze(2) if kind.reads_frames else latents
    pixels: Pixels = network.decode(inputs).sample
    return pixels.squeeze(2) if kind.reads_frames else pixels


def architecture(config: Mapping[str, Any], kind: AutoencoderClass) -> dict[str, Any]:
    """Settings that change a network's outputs, as JSON values.

    Of classes other than AutoencoderKL these are the settings that differ from the defaults, so
    that a setting that a later diffusers adds changes nothing.
    """
    if kind.name in LISTED_CLASSES:
        return plain_values({name: config[name] for name in ARCHITECTURE})
    defaults, values = class_defaults(kind), plain_values(config)
    changed = {
        name: value
        for name, value in values.items()
        if name in defaults and name not in NO_ARCHITECTURE and value != defaults[name]
    }
    return {"class": kind.name, **changed}


def load_network(folder: Path) -> nn.Module:
    """Load the network of a folder; all weights must match.

    Raises:
        ValueError: damaged, quantised or unsupported files, or weights that do not fit.
    """
    config = read_config(folder)
    kind = find_class(config)
    if kind is CLASSES[PIXEL_CLASS]:
        return PixelNetwork()
    if kind is CLASSES[REPRESENTATION_CLASS]:
        return read_representation(folder, config)
    refuse_quantisation(config, str(folder))
    _refuse_unknown(folder, config, kind)
    try:
        kind.layout(class_defaults(kind) | config)
    except ENTRY_ERRORS as error:
        raise damaged(folder, error) from error
    files = find_weights(folder)
    try:
        types = stored_types(files.path)
    except ValueError as error:
        raise damaged(folder, error) from error
    refuse_quantised(types, str(folder))
    try:
        network, report = network_class(kind).from_pretrained(
            str(folder),
            use_safetensors=files.safetensors,
            variant=files.variant,
            local_files_only=True,
            low_cpu_mem_usage=False,  # True needs accelerate, and warns without it
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # reported below
        )
    except (SafetensorError, *LOAD_ERRORS) as error:
        raise damaged(folder, error) from error
    problems = [f"{fault} {_names(keys)}" for fault, keys in sorted(report.items()) if keys]
    if problems:
        raise ValueError(f"{folder}: weights and config.json do not match: {'; '.join(problems)}")
    check_finite(network.state_dict(), str(folder))
    return network


def _refuse_unknown(folder: Path, config: Mapping[str, Any], kind: AutoencoderClass) -> None:
    """Reject settings that the installed diffusers does not have and would ignore silently.
    Settings without a value are allowed."""
    known = {*class_defaults(kind), *kind.derived}
    unknown = [
        f"{name}={value!r}"
        for name, value in config.items()
        if value is not None and name not in known and not name.startswith("_")
    ]
    if unknown:
        raise ValueError(
            f"{folder}: config.json (diffusers {config.get('_diffusers_version', 'unknown')}) "
            f"has settings that {kind.name} of diffusers {diffusers_version} does not have: "
            f"{', '.join(unknown)}. Update diffusers, or remove them if they have no effect"
        )


def _names(keys: list[Any]) -> str:
    """Number of tensors and the first names; some reports have (name, shapes) tuples."""
    names = [key if isinstance(key, str) else str(key[0]) for key in keys]
    return f"({len(names)}): {join_names(sorted(names))}"
