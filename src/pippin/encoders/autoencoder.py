# SPDX-License-Identifier: Apache-2.0
"""Frozen autoencoder: images to pixels, moments and normalised latents, and back."""

import hashlib
import inspect
import json
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL
from diffusers import __version__ as diffusers_version
from jaxtyping import Float
from safetensors import SafetensorError
from torch import Tensor, nn

from pippin.encoders.config import SHIPPED_PREFIX, AutoencoderConfig
from pippin.encoders.normalisation import (
    ARCHITECTURE,
    MEAN_KEY,
    STD_KEY,
    Affine,
    check_weights,
    read_record,
    record_metadata,
    to_images,
)
from pippin.encoders.pixels import PixelNetwork
from pippin.encoders.source import (
    CONFIG_FILE,
    PIXEL_CLASS,
    WEIGHTS_FILE,
    damaged,
    find_autoencoder,
    read_config,
    read_metadata,
)
from pippin.system.files import make_folder, write_text
from pippin.system.formats import content_digest
from pippin.system.tensors import load_tensors, recorded_digest, save_tensors, tensors_digest
from pippin.system.weight_checks import (
    check_finite,
    join_names,
    refuse_quantisation,
    refuse_quantised,
)
from pippin.system.weight_files import stored_types
from pippin.system.weight_folders import find_weights
from pippin.types import Images, Latents, Moments, Pixels


def shipped_digest(folder: Path) -> str:
    """SHA-256 of an autoencoder's folder: tensors in fp32, latent statistics, and the values of
    config.json in any order.

    Raises:
        ValueError: a file is damaged.
    """
    metadata = read_metadata(folder)
    return hashlib.sha256(
        "\n".join(
            (
                autoencoder_digest(load_tensors(folder / WEIGHTS_FILE), metadata),
                content_digest(read_config(folder)),
            )
        ).encode()
    ).hexdigest()


def autoencoder_digest(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> str:
    """SHA-256 of tensors in fp32 and latent statistics.

    Args:
        tensors: name -> tensor, in the dtype of the file.
        metadata: metadata of the file.
    """
    weights = tensors_digest({name: value.float() for name, value in tensors.items()})
    statistics = (metadata.get(MEAN_KEY, ""), metadata.get(STD_KEY, ""))
    return hashlib.sha256("\n".join((weights, *statistics)).encode()).hexdigest()


def check_shipped(folder: Path) -> None:
    """Check that an autoencoder of the package is the one that was shipped.

    Raises:
        ValueError: weights, latent statistics or config.json have another digest; the message
            names the folder.
    """
    if shipped_digest(folder) != recorded_digest(folder):
        raise ValueError(
            f"{folder} is damaged: the sha256 of its weights, latent statistics and config.json "
            "is not the recorded one; install pippin again"
        )


LOAD_ERRORS = (OSError, TypeError, ValueError, ArithmeticError, RuntimeError)
"""Errors that diffusers raises for a damaged config.json or damaged weights."""


class Autoencoder(nn.Module):
    """Frozen diffusers AutoencoderKL, or the identity, with its affine normalisation.

    It computes in fp32, also under autocast. Rows do not depend on the batch, up to rounding.

    Args:
        network: the network, which is frozen and cast to fp32.
        affine: normalisation of its raw latents.
    """

    shift: Tensor
    scale: Tensor

    def __init__(self, network: AutoencoderKL | PixelNetwork, affine: Affine) -> None:
        super().__init__()
        self.network = network.float().eval().requires_grad_(False)
        self.register_buffer("shift", affine.shift.clone())
        self.register_buffer("scale", affine.scale.clone())

    @classmethod
    def load(cls, config: AutoencoderConfig, device: torch.device | str = "cpu") -> "Autoencoder":
        """Load the autoencoder of a configuration, without running code from its files.

        Raises:
            ValueError: not found, weights that do not match their config.json, or weights without
                latent statistics.
        """
        folder = find_autoencoder(config)
        if config.source.startswith(SHIPPED_PREFIX):
            check_shipped(folder)
        return cls.from_folder(folder).to(device)

    @classmethod
    def from_folder(cls, folder: Path) -> "Autoencoder":
        """Load an autoencoder in diffusers' format (config.json and weights) on the CPU.

        Raises:
            ValueError: see :meth:`load`, or weights that differ from their checksum.
            FormatError: the folder has a newer version.
        """
        network = _read_network(folder)
        metadata = _checked_metadata(folder, network.config)
        try:
            affine = Affine.from_weights(metadata, network.config, network.config.latent_channels)
        except ValueError as error:
            raise ValueError(f"{folder}: {error}") from error
        return cls(network, affine)

    @property
    def affine(self) -> Affine:
        """Affine normalisation of the latents, on the CPU."""
        return Affine(self.shift.cpu(), self.scale.cpu())

    def with_affine(self, affine: Affine) -> "Autoencoder":
        """Autoencoder with the same network and device, and another normalisation."""
        return Autoencoder(self.network, affine).to(self.shift.device)

    def save(self, folder: Path, *, dtype: torch.dtype = torch.float32) -> None:
        """Save config.json and the weights, with the affine in the metadata of the weights.

        Args:
            folder: folder, created if missing.
            dtype: type of the weights on disk; loading casts them to fp32.
        """
        make_folder(folder)
        # The affine has one source only; null disables diffusers' default factor.
        self.network.register_to_config(scaling_factor=None)
        write_text(folder / CONFIG_FILE, self.network.to_json_string())
        state = self.network.state_dict()
        weights = {name: value.to("cpu", dtype) for name, value in state.items()}
        metadata = record_metadata(weights, self.affine.metadata(), self.network.config)
        save_tensors(folder / WEIGHTS_FILE, weights, {"format": "pt", **metadata})

    @property
    def factor(self) -> int:
        """Spatial downsampling factor: 4 for f4, 1 for pixels."""
        return 2 ** (len(self.network.config.block_out_channels) - 1)

    def latent_shape(self, height: int, width: int | None = None) -> tuple[int, int, int]:
        """(channels, height, width) of the latents of an image.

        Args:
            height, width: size of the image in pixels; one side alone means a square.

        Raises:
            ValueError: a side is not a multiple of the factor.
        """
        sides = (height, height if width is None else width)
        for side in sides:
            self._check_side(side)
        channels = self.network.config.latent_channels
        return channels, sides[0] // self.factor, sides[1] // self.factor

    @torch.no_grad()
    def encode(self, pixels: Pixels) -> Moments:
        """Encode pixels to the posterior of raw latents, in fp32.

        Args:
            pixels: values in [-1, 1]; height and width are multiples of the factor.

        Raises:
            ValueError: a side is not a multiple of the factor.
        """
        for side in pixels.shape[2:]:
            self._check_side(side)
        with _full_precision(pixels.device):
            posterior = self.network.encode(pixels.float()).latent_dist
        return Moments(mean=posterior.mean, std=posterior.std)

    @torch.no_grad()
    def decode(
        self, latents: Float[Tensor, "batch channels latent_height latent_width"]
    ) -> Images:
        """Decode normalised latents to images, clamped and rounded."""
        with _full_precision(latents.device):
            return to_images(self.network.decode(self.denormalise(latents)).sample)

    def normalise(self, raw: Latents) -> Latents:
        """Normalise raw latents to about unit variance, in fp32."""
        return (raw.float() - self.shift) / self.scale

    def denormalise(self, latents: Latents) -> Latents:
        """Inverse of :meth:`normalise`, in fp32."""
        return latents.float() * self.scale + self.shift

    def sample(
        self, moments: Moments, noise: Float[Tensor, "batch channels height width"]
    ) -> Latents:
        """Sample the posterior and normalise.

        Args:
            moments: raw moments, as cached.
            noise: standard normal noise; zeros give the posterior mean.
        """
        return self.normalise(moments.mean.float() + moments.std.float() * noise.float())

    @cached_property
    def fingerprint(self) -> str:
        """Hash of architecture, weights and affine, 16 hexadecimal digits."""
        config = {name: self.network.config[name] for name in ARCHITECTURE}
        digest = hashlib.sha256(json.dumps(config, sort_keys=True).encode())
        for name, value in sorted(self.state_dict().items()):
            digest.update(name.encode())
            digest.update(value.detach().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()[:16]

    def _check_side(self, side: int) -> None:
        if side < 1 or side % self.factor:
            raise ValueError(
                f"the sides of images for this autoencoder must be multiples of {self.factor} "
                f"pixels; got {side}"
            )


def _full_precision(device: torch.device) -> torch.autocast:
    return torch.autocast(device.type, enabled=False)


def _checked_metadata(folder: Path, config: Mapping[str, Any]) -> dict[str, str]:
    """Metadata of a folder's weights, after a comparison of checksums, if there are any."""
    metadata, path = read_metadata(folder), find_weights(folder).path
    if record := read_record(metadata, path):
        check_weights(record, load_tensors(path), config, path)
    return metadata


def _read_network(folder: Path) -> AutoencoderKL | PixelNetwork:
    """Load the network of a folder; all weights must match."""
    config = read_config(folder)
    if config.get("_class_name") == PIXEL_CLASS:
        return PixelNetwork()
    refuse_quantisation(config, str(folder))
    _refuse_unknown(folder, config)
    files = find_weights(folder)
    try:
        types = stored_types(files.path)
    except ValueError as error:
        raise damaged(folder, error) from error
    refuse_quantised(types, str(folder))
    try:
        network, report = AutoencoderKL.from_pretrained(
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
    problems = [f"{kind} {_names(names)}" for kind, names in sorted(report.items()) if names]
    if problems:
        raise ValueError(f"{folder}: weights and config.json do not match: {'; '.join(problems)}")
    check_finite(network.state_dict(), str(folder))
    return network


def _names(keys: list[Any]) -> str:
    """Number of tensors and the first names; some reports have (name, shapes) tuples."""
    names = [key if isinstance(key, str) else str(key[0]) for key in keys]
    return f"({len(names)}): {join_names(sorted(names))}"


def _refuse_unknown(folder: Path, config: dict[str, Any]) -> None:
    """Reject settings that the installed diffusers does not have and would ignore silently.
    Settings without a value are allowed."""
    known = inspect.signature(AutoencoderKL.__init__).parameters
    unknown = [
        f"{name}={value!r}"
        for name, value in config.items()
        if value is not None and name not in known and not name.startswith("_")
    ]
    if unknown:
        raise ValueError(
            f"{folder}: config.json (diffusers {config.get('_diffusers_version', 'unknown')}) "
            f"has settings that AutoencoderKL of diffusers {diffusers_version} does not have: "
            f"{', '.join(unknown)}. Update diffusers, or remove them if they have no effect"
        )
