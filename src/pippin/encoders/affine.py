# SPDX-License-Identifier: Apache-2.0
"""The affine between an autoencoder's raw latents and the normalised ones.

    normalised = (raw - shift) / scale

Ours has one shift and one scale for each channel: mean and standard deviation measured on training
pictures, written into the metadata of the weights' own file, so that weights cannot be swapped
without them. Published autoencoders name theirs in config.json; in diffusers' convention
normalised = (raw - shift_factor) scaling_factor, or with statistics for each channel
normalised = (raw - latents_mean) scaling_factor / latents_std.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from torch import Tensor

from pippin.encoders.record import check_record
from pippin.encoders.source import CONFIG_FILE, WEIGHTS_FILE

MEAN_KEY, STD_KEY = "pippin.latents_mean", "pippin.latents_std"
"""Names in the metadata of a safetensors file; the values are JSON lists, one number a channel."""

DEFAULT_FACTOR = 0.18215
"""diffusers' ``scaling_factor`` where an older config.json says nothing of it."""


@dataclass(frozen=True)
class Affine:
    """Shift and scale of each latent channel, in fp32."""

    shift: Float[Tensor, "1 channels 1 1"]
    scale: Float[Tensor, "1 channels 1 1"]

    @classmethod
    def from_statistics(
        cls, mean: Float[Tensor, " channels"], std: Float[Tensor, " channels"]
    ) -> "Affine":
        """The affine that gives each channel mean 0 and standard deviation 1.

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
    def of_weights(
        cls, metadata: Mapping[str, str], config: Mapping[str, Any], channels: int
    ) -> "Affine":
        """The affine that belongs to a weights file.

        Args:
            metadata: of the safetensors file; it comes first.
            config: config.json with diffusers' defaults filled in.
            channels: of the latents.

        Raises:
            ValueError: neither says how latents are normalised, or for another channel count.
        """
        if MEAN_KEY in metadata and STD_KEY in metadata:
            mean, std = json.loads(metadata[MEAN_KEY]), json.loads(metadata[STD_KEY])
        else:
            mean, std = _published(config, channels)
        if len(mean) != channels or len(std) != channels:
            raise ValueError(
                f"latent statistics of {len(mean)} means and {len(std)} standard deviations do "
                f"not fit {channels} latent channels"
            )
        return cls.from_statistics(torch.tensor(mean), torch.tensor(std))

    def metadata(self) -> dict[str, str]:
        """What :meth:`of_weights` reads back, bit for bit."""
        return {
            MEAN_KEY: json.dumps(self.shift.flatten().tolist()),
            STD_KEY: json.dumps(self.scale.flatten().tolist()),
        }


def read_affine(folder: Path) -> Affine:
    """The affine of an autoencoder's folder, without its weights.

    Raises:
        FormatError: of a newer version.
        ValueError: files that are damaged or say nothing of it.
    """
    try:
        config = {"scaling_factor": DEFAULT_FACTOR} | json.loads(
            (folder / CONFIG_FILE).read_bytes()
        )
        with safe_open(folder / WEIGHTS_FILE, framework="pt") as file:
            metadata = file.metadata() or {}
        channels = int(config["latent_channels"])
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{folder}: damaged, or no AutoencoderKL's: {error!r}") from error
    check_record(metadata, folder / WEIGHTS_FILE)
    return Affine.of_weights(metadata, config, channels)


def _published(config: Mapping[str, Any], channels: int) -> tuple[list[float], list[float]]:
    """(mean, std) of each channel in diffusers' convention."""
    factor = config.get("scaling_factor")
    if factor is None:
        raise ValueError(
            "the autoencoder has no latent statistics: neither its safetensors metadata has "
            f"{MEAN_KEY} and {STD_KEY}, nor its config.json a scaling_factor. Weights are only "
            "usable with the statistics that were measured for them"
        )
    mean, std = config.get("latents_mean"), config.get("latents_std")
    if (mean is None) != (std is None):
        raise ValueError("config.json must have latents_mean and latents_std both or neither")
    if mean is None or std is None:
        mean, std = [config.get("shift_factor") or 0.0] * channels, [1.0] * channels
    return list(mean), [value / factor for value in std]
