# SPDX-License-Identifier: Apache-2.0
"""Normalisation of pixels and of latents, and its record in the weights file.

An autoencoder's raw latents are normalised by one affine:

    normalised = (raw - shift) / scale

pippin uses one shift and one scale for each channel: mean and standard deviation measured on
training images. They are in the metadata of the weights file, so weights cannot be swapped without
them. Published autoencoders have them in config.json; in diffusers' convention
normalised = (raw - shift_factor) scaling_factor, or with statistics for each channel
normalised = (raw - latents_mean) scaling_factor / latents_std, where a class without a
scaling_factor (Qwen-Image, Wan) has 1. FLUX.2 has them in the running statistics of a BatchNorm.

The record is one JSON entry of the weights file's metadata: the version, the digest of the
weights, the settings of the architecture, the latent statistics, and a checksum of all these.
Autoencoders from other sources, and those of version 0, have no record.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from safetensors import SafetensorError
from torch import Tensor

from pippin.encoders.classes import OWN_CLASSES, AutoencoderClass, find_class
from pippin.encoders.network_classes import class_defaults
from pippin.encoders.source import WEIGHTS_FILE, read_config, read_metadata
from pippin.system.formats import (
    AGAIN,
    ENTRY_ERRORS,
    check_versioned_json,
    foreign_entry_error,
    parse_json,
    with_checksum,
)
from pippin.system.tensors import typed_digest
from pippin.system.weight_files import read_tensors
from pippin.system.weight_folders import find_weights
from pippin.types import Images, Pixels


def to_pixels(images: Images) -> Pixels:
    """Convert uint8 0..255 to float32 in [-1, 1]."""
    return images.float() / 127.5 - 1


def to_images(pixels: Pixels) -> Images:
    """Convert floats, clamped to [-1, 1], to rounded uint8 0..255."""
    levels = (pixels.float().clamp(-1, 1) + 1) * 127.5
    return levels.round().to(torch.uint8)


RECORD_KEY = "pippin.record"
KIND = "autoencoder"
"""Key in :data:`pippin.system.formats.FORMATS`."""
ARCHITECTURE = (
    *("in_channels", "out_channels", "latent_channels", "block_out_channels", "layers_per_block"),
    *("down_block_types", "up_block_types", "act_fn", "norm_num_groups"),
    *("use_quant_conv", "use_post_quant_conv", "mid_block_add_attention"),
)
"""Settings of AutoencoderKL that change its outputs."""
AFFINE_SETTINGS = ("scaling_factor", "shift_factor", "latents_mean", "latents_std")
"""Settings of config.json that state an affine."""


def record_metadata(
    tensors: Mapping[str, Tensor], statistics: Mapping[str, str], architecture: Mapping[str, Any]
) -> dict[str, str]:
    """Metadata of a weights file.

    Args:
        tensors: the tensors to write.
        statistics: metadata of the affine; empty for an autoencoder without one.
        architecture: settings of the network, see :func:`pippin.encoders.networks.architecture`.
    """
    values = {
        "statistics": dict(statistics),
        "weights": typed_digest(tensors),
        "architecture": dict(architecture),
    }
    return {**statistics, RECORD_KEY: json.dumps(with_checksum(KIND, values))}


def read_record(metadata: Mapping[str, str], place: Path) -> dict[str, Any]:
    """Read the record of a weights file; empty if there is none.

    Raises:
        FormatError: the record has a newer version.
        ValueError: the record is damaged, or the latent statistics differ from the written ones.
    """
    if RECORD_KEY not in metadata:
        return {}
    try:
        values = parse_json(metadata[RECORD_KEY])
    except ValueError as error:
        raise ValueError(f"{place} is damaged: its {RECORD_KEY} is not JSON: {error}") from error
    record = check_versioned_json(values, KIND, place)
    if not record.get("statistics", {}).items() <= metadata.items():
        raise ValueError(f"{place} is damaged: its latent statistics are not those written")
    return record


def check_weights(
    record: Mapping[str, Any],
    tensors: Mapping[str, Tensor],
    architecture: Mapping[str, Any],
    place: Path,
) -> None:
    """Compare a network's tensors and settings with its record.

    Raises:
        ValueError: weights or settings differ from the written ones.
    """
    if "weights" in record and record["weights"] != typed_digest(tensors):
        raise ValueError(f"{place} is damaged: its weights are not those that were written")
    if record and record.get("architecture") != architecture:
        raise ValueError(
            f"{place} and the config.json beside it do not belong together: restore the original "
            "config.json"
        )


MEAN_KEY, STD_KEY = "pippin.latents_mean", "pippin.latents_std"
"""Metadata keys of a safetensors file; the values are JSON lists, one number a channel."""


class MissingStatisticsError(ValueError):
    """Autoencoder without latent statistics of its own."""


@dataclass(frozen=True)
class Affine:
    """Shift and scale of each latent channel, in fp32."""

    shift: Float[Tensor, "1 channels 1 1"]
    scale: Float[Tensor, "1 channels 1 1"]

    @classmethod
    def from_statistics(
        cls, mean: Float[Tensor, " channels"], std: Float[Tensor, " channels"]
    ) -> "Affine":
        """Affine that gives each channel mean 0 and standard deviation 1.

        Raises:
            ValueError: a number is not finite, or a standard deviation is not positive.
        """
        if not (mean.isfinite().all() and std.isfinite().all() and (std > 0).all()):
            raise ValueError(
                "latent statistics must be finite and standard deviations positive; got mean "
                f"{mean.tolist()}, std {std.tolist()}"
            )
        return cls(mean.float().view(1, -1, 1, 1), std.float().view(1, -1, 1, 1))

    @classmethod
    def identity(cls, channels: int) -> "Affine":
        """Affine that changes nothing, of an autoencoder without latent statistics."""
        return cls.from_statistics(torch.zeros(channels), torch.ones(channels))

    @classmethod
    def from_weights(
        cls, metadata: Mapping[str, str], config: Mapping[str, Any], channels: int
    ) -> "Affine":
        """Affine of a weights file.

        Args:
            metadata: metadata of the safetensors file; takes precedence.
            config: config.json with diffusers' defaults.
            channels: number of latent channels.

        Raises:
            MissingStatisticsError: neither defines the normalisation.
            ValueError: the channel count differs, or they are no numbers.
        """
        try:
            if MEAN_KEY in metadata and STD_KEY in metadata:
                mean, std = (_numbers(parse_json(metadata[key])) for key in (MEAN_KEY, STD_KEY))
            else:
                mean, std = _diffusers_statistics(config, channels)
        except (TypeError, ArithmeticError) as error:
            raise ValueError(
                f"latent statistics are damaged ({error}): means must be numbers; deviations and "
                f"scaling_factor numbers other than 0; {AGAIN}"
            ) from error
        if (len(mean), len(std)) != (channels, channels):
            raise ValueError(
                f"latent statistics of {len(mean)} means and {len(std)} standard deviations do "
                f"not fit {channels} latent channels"
            )
        return cls.from_statistics(torch.tensor(mean), torch.tensor(std))

    def metadata(self) -> dict[str, str]:
        """Metadata that :meth:`from_weights` restores bit for bit."""
        return {
            MEAN_KEY: json.dumps(self.shift.flatten().tolist()),
            STD_KEY: json.dumps(self.scale.flatten().tolist()),
        }


def read_affine(folder: Path) -> Affine:
    """Read the affine of an autoencoder's folder, without building the network.

    Raises:
        FormatError: the folder has a newer version.
        MissingStatisticsError: the files have no normalisation.
        ValueError: damaged files.
    """
    settings = read_config(folder)
    kind = find_class(settings)
    config = class_defaults(kind) | settings if kind.name not in OWN_CLASSES else settings
    try:
        metadata = read_metadata(folder)
        config = affine_settings(config, kind, lambda: read_tensors(find_weights(folder).path))
        channels = kind.layout(config).channels
    except (OSError, SafetensorError, *ENTRY_ERRORS) as error:
        what = f"an autoencoder of class {kind.name}"
        raise foreign_entry_error(folder, what, error) from error
    read_record(metadata, folder / WEIGHTS_FILE)
    try:
        return Affine.from_weights(metadata, config, channels)
    except MissingStatisticsError:
        raise
    except ValueError as error:
        raise ValueError(f"{folder}: {error}") from error


def affine_settings(
    config: Mapping[str, Any], kind: AutoencoderClass, read: Callable[[], Mapping[str, Tensor]]
) -> dict[str, Any]:
    """Configuration of a network, in which the running statistics of its layer ``bn``, where they
    normalise latents, stand as settings of config.json.

    Args:
        config: config.json with diffusers' defaults.
        kind: its class.
        read: returns the network's tensors by name; called for a BatchNorm only.
    """
    if not kind.batch_norm:
        return dict(config)
    tensors = read()
    variance = tensors["bn.running_var"].float() + config["batch_norm_eps"]
    return {
        **config,
        "latents_mean": tensors["bn.running_mean"].float().tolist(),
        "latents_std": variance.sqrt().tolist(),
    }


def _diffusers_statistics(
    config: Mapping[str, Any], channels: int
) -> tuple[list[float], list[float]]:
    """(mean, std) of each channel in diffusers' convention."""
    mean, std = config.get("latents_mean"), config.get("latents_std")
    if (mean is None) != (std is None):
        raise ValueError("config.json must have latents_mean and latents_std both or neither")
    has_own = mean is not None and "scaling_factor" not in config  # Qwen-Image, Wan, FLUX.2
    factor = 1.0 if has_own else config.get("scaling_factor")
    if factor is None:
        raise MissingStatisticsError(
            "the autoencoder has no latent statistics: neither its safetensors metadata has "
            f"{MEAN_KEY} and {STD_KEY}, nor its config.json a scaling_factor or latents_mean. "
            "Weights need the statistics that were measured for them: give the original files, or "
            "measure the training images with --autoencoder.normalisation measured"
        )
    if mean is None or std is None:
        mean, std = [config.get("shift_factor") or 0.0] * channels, [1.0] * channels
    return _numbers(mean), [value / factor for value in _numbers(std)]


def _numbers(values: Any) -> list[float]:
    """The values of a list.

    Raises:
        TypeError: no list of numbers.
    """
    if not isinstance(values, list | tuple):
        raise TypeError(f"{type(values).__name__} instead of a list")
    if others := [value for value in values if type(value) not in (int, float)]:
        raise TypeError(f"{type(others[0]).__name__} instead of a number")
    return [float(value) for value in values]
