# SPDX-License-Identifier: Apache-2.0
"""The frozen autoencoder: images, pixels, moments, normalised latents, and back."""

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

from pippin.encoders.affine import Affine
from pippin.encoders.checksum import check_shipped
from pippin.encoders.config import AutoencoderConfig
from pippin.encoders.pixels import to_images
from pippin.encoders.record import ARCHITECTURE, check_weights, read_record, record_metadata
from pippin.encoders.source import (
    CONFIG_FILE,
    SHIPPED_PREFIX,
    WEIGHTS_FILE,
    damaged,
    find_autoencoder,
    read_config,
    read_metadata,
)
from pippin.system.files import write_text
from pippin.system.flush import make_folder
from pippin.system.tensors import load_tensors, save_tensors
from pippin.system.weight_checks import check_finite, listed, refuse_quantisation, refuse_quantised
from pippin.system.weight_files import stored_types
from pippin.system.weight_folders import find_weights
from pippin.types import Images, Latents, Moments, Pixels

DAMAGE = (OSError, TypeError, ValueError, ArithmeticError, RuntimeError)
"""What diffusers raises on a config.json or weights that are damaged."""


class Autoencoder(nn.Module):
    """A frozen diffusers AutoencoderKL with the affine that belongs to it.

    It computes in fp32 whatever autocast surrounds it. Calls with any batch give the same rows up
    to rounding.

    Args:
        network: the weights; they are frozen and cast to fp32.
        affine: of its raw latents.
    """

    shift: Tensor
    scale: Tensor

    def __init__(self, network: AutoencoderKL, affine: Affine) -> None:
        super().__init__()
        self.network = network.float().eval().requires_grad_(False)
        self.register_buffer("shift", affine.shift.clone())
        self.register_buffer("scale", affine.scale.clone())

    @classmethod
    def load(cls, config: AutoencoderConfig, device: torch.device | str = "cpu") -> "Autoencoder":
        """The autoencoder that a configuration names, without running code from its files.

        Raises:
            ValueError: nothing of that name, weights that do not fit their config.json, or
                weights without latent statistics.
        """
        folder = find_autoencoder(config)
        if config.source.startswith(SHIPPED_PREFIX):
            check_shipped(folder)
        return cls.from_folder(folder).to(device)

    @classmethod
    def from_folder(cls, folder: Path) -> "Autoencoder":
        """An autoencoder in diffusers' format (config.json and weights), on the CPU.

        Raises:
            ValueError: as :meth:`load`, or weights that are not those that were written.
            FormatError: of a newer version.
        """
        network = _read_network(folder)
        metadata = _checked_metadata(folder, network.config)
        try:
            affine = Affine.of_weights(metadata, network.config, network.config.latent_channels)
        except ValueError as error:
            raise ValueError(f"{folder}: {error}") from error
        return cls(network, affine)

    @property
    def affine(self) -> Affine:
        """What normalises its latents, on the CPU."""
        return Affine(self.shift.cpu(), self.scale.cpu())

    def with_affine(self, affine: Affine) -> "Autoencoder":
        """The same network, on its device, whose latents are normalised by other numbers."""
        return Autoencoder(self.network, affine).to(self.shift.device)

    def save(self, folder: Path, *, dtype: torch.dtype = torch.float32) -> None:
        """Write config.json and the weights, with the affine in the weights' metadata.

        Args:
            folder: made where it is missing.
            dtype: of the weights on disk; loading casts them to fp32.
        """
        make_folder(folder)
        # The affine stands in one place only; null keeps diffusers' default factor out.
        self.network.register_to_config(scaling_factor=None)
        write_text(folder / CONFIG_FILE, self.network.to_json_string())
        state = self.network.state_dict()
        weights = {name: value.to("cpu", dtype) for name, value in state.items()}
        metadata = record_metadata(weights, self.affine.metadata(), self.network.config)
        save_tensors(folder / WEIGHTS_FILE, weights, {"format": "pt", **metadata})

    @property
    def factor(self) -> int:
        """Pixels to a latent's side: 4 for f4."""
        return 2 ** (len(self.network.config.block_out_channels) - 1)

    def latent_shape(self, height: int, width: int | None = None) -> tuple[int, int, int]:
        """(channels, height, width) of the latents of an image of these sides in pixels.

        Args:
            height, width: one side alone is that of a square.

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
        """The posterior of raw latents, in fp32.

        Args:
            pixels: in [-1, 1]; height and width are multiples of the factor.

        Raises:
            ValueError: they are not.
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
        """Normalised latents -> images, clamped and rounded."""
        with _full_precision(latents.device):
            return to_images(self.network.decode(self.denormalise(latents)).sample)

    def normalise(self, raw: Latents) -> Latents:
        """Raw latents -> about unit variance, in fp32."""
        return (raw.float() - self.shift) / self.scale

    def denormalise(self, latents: Latents) -> Latents:
        """The inverse of :meth:`normalise`, in fp32."""
        return latents.float() * self.scale + self.shift

    def draw(
        self, moments: Moments, noise: Float[Tensor, "batch channels height width"]
    ) -> Latents:
        """A sample of the posterior, normalised.

        Args:
            moments: raw, as cached.
            noise: standard normal; zeros give the posterior's mean.
        """
        return self.normalise(moments.mean.float() + moments.std.float() * noise.float())

    @cached_property
    def fingerprint(self) -> str:
        """16 hexadecimal digits over architecture, weights and affine."""
        config = {name: self.network.config[name] for name in ARCHITECTURE}
        digest = hashlib.sha256(json.dumps(config, sort_keys=True).encode())
        for name, value in sorted(self.state_dict().items()):
            digest.update(name.encode())
            digest.update(value.detach().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()[:16]

    def _check_side(self, side: int) -> None:
        if side < 1 or side % self.factor:
            raise ValueError(
                f"this autoencoder takes sides that are multiples of {self.factor} pixels; "
                f"got {side}"
            )


def _full_precision(device: torch.device) -> torch.autocast:
    return torch.autocast(device.type, enabled=False)


def _checked_metadata(folder: Path, config: Mapping[str, Any]) -> dict[str, str]:
    """The metadata of a folder's weights, once its checksums were compared, if it has any."""
    metadata, path = read_metadata(folder), find_weights(folder).path
    if record := read_record(metadata, path):
        check_weights(record, load_tensors(path), config, path)
    return metadata


def _read_network(folder: Path) -> AutoencoderKL:
    """The weights of a folder, all of them matched."""
    config = read_config(folder)
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
            low_cpu_mem_usage=False,  # the other way wants accelerate, and says so each time
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # they are named below
        )
    except (SafetensorError, *DAMAGE) as error:
        raise damaged(folder, error) from error
    problems = [f"{kind} {_names(names)}" for kind, names in sorted(report.items()) if names]
    if problems:
        raise ValueError(f"{folder}: weights and config.json do not fit: {'; '.join(problems)}")
    check_finite(network.state_dict(), str(folder))
    return network


def _names(found: list[Any]) -> str:
    """How many tensors, and the first few; shapes stand beside names in some reports."""
    names = [one if isinstance(one, str) else str(one[0]) for one in found]
    return f"({len(names)}): {listed(sorted(names))}"


def _refuse_unknown(folder: Path, config: dict[str, Any]) -> None:
    """Refuse settings that the class here does not have, as one of a later diffusers may: it would
    pass over them. Those without a value change nothing."""
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
            f"{', '.join(unknown)}. Update diffusers, or remove them where they mean nothing"
        )
