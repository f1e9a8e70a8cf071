# SPDX-License-Identifier: Apache-2.0
"""Frozen autoencoder: images to pixels, moments and normalised latents, and back."""

import hashlib
import json
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from pippin.encoders.classes import AutoencoderClass
from pippin.encoders.config import SHIPPED_PREFIX, AutoencoderConfig
from pippin.encoders.networks import (
    architecture,
    decode_raw,
    encode_raw,
    load_network,
    network_kind,
)
from pippin.encoders.normalisation import (
    AFFINE_SETTINGS,
    Affine,
    MissingStatisticsError,
    affine_settings,
    check_weights,
    read_record,
    record_metadata,
    to_images,
)
from pippin.encoders.shipped_digest import check_shipped
from pippin.encoders.source import CONFIG_FILE, WEIGHTS_FILE, find_autoencoder, read_metadata
from pippin.system.files import make_folder, write_text
from pippin.system.tensors import load_tensors, save_tensors
from pippin.system.weight_folders import find_weights
from pippin.types import Images, Latents, Moments, Pixels


class Autoencoder(nn.Module):
    """Frozen autoencoder with its affine normalisation: a network of diffusers, features of a
    frozen encoder with a decoder, or the identity.

    It computes in fp32, also under autocast. Rows do not depend on the batch, up to rounding.

    Args:
        network: a network of one of :data:`pippin.encoders.classes.CLASSES`, which is frozen and
            cast to fp32.
        affine: normalisation of its raw latents; None = it has none, and none is applied.

    Raises:
        ValueError: the class of the network is not supported.
    """

    shift: Tensor
    scale: Tensor

    def __init__(self, network: nn.Module, affine: Affine | None) -> None:
        super().__init__()
        self.network = network.float().eval().requires_grad_(False)
        self.layout = self.kind.layout(self.settings)
        self.has_statistics = affine is not None
        affine = affine or Affine.identity(self.layout.channels)
        self.register_buffer("shift", affine.shift.clone())
        self.register_buffer("scale", affine.scale.clone())

    @classmethod
    def load(cls, config: AutoencoderConfig, device: torch.device | str = "cpu") -> "Autoencoder":
        """Load the autoencoder of a configuration, without running code from its files.

        Raises:
            ValueError: not found, weights that do not match their config.json, or weights without
                latent statistics where ``config.normalisation`` reads them from the files.
        """
        folder = find_autoencoder(config)
        if config.source.startswith(SHIPPED_PREFIX):
            check_shipped(folder)
        needed = config.normalisation == "weights"
        return cls.from_folder(folder, needs_statistics=needed).to(device)

    @classmethod
    def from_folder(cls, folder: Path, *, needs_statistics: bool = True) -> "Autoencoder":
        """Load an autoencoder in diffusers' format (config.json and weights) on the CPU.

        Args:
            folder: its folder.
            needs_statistics: refuse files without latent statistics.

        Raises:
            ValueError: see :meth:`load`, or weights that differ from their checksum.
            FormatError: the folder has a newer version.
        """
        network: Any = load_network(folder)
        kind = network_kind(network)
        metadata = _checked_metadata(folder, architecture(network.config, kind))
        try:
            affine = _own_affine(network, kind, metadata, needed=needs_statistics)
        except ValueError as error:
            raise ValueError(f"{folder}: {error}") from error
        return cls(network, affine)

    @property
    def settings(self) -> Mapping[str, Any]:
        """Configuration of the network."""
        network: Any = self.network
        return network.config

    @property
    def kind(self) -> AutoencoderClass:
        """Class of the network."""
        return network_kind(self.network)

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
        cleared = [name for name in AFFINE_SETTINGS if name in self.settings]
        network: Any = self.network
        network.register_to_config(**dict.fromkeys(cleared))
        write_text(folder / CONFIG_FILE, network.to_json_string())
        state = network.state_dict()
        weights = {
            name: value.to("cpu", dtype if value.is_floating_point() else value.dtype)
            for name, value in state.items()
        }
        statistics = self.affine.metadata() if self.has_statistics else {}
        settings = architecture(self.settings, self.kind)
        metadata = record_metadata(weights, statistics, settings)
        save_tensors(folder / WEIGHTS_FILE, weights, {"format": "pt", **metadata})

    @property
    def factor(self) -> int:
        """Spatial downsampling factor: 4 for f4, 1 for pixels."""
        return self.layout.factor

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
        return self.layout.channels, sides[0] // self.factor, sides[1] // self.factor

    @torch.no_grad()
    def encode(self, pixels: Pixels) -> Moments:
        """Encode pixels to the posterior of raw latents, in fp32; a deterministic encoder's has no
        deviation.

        Args:
            pixels: values in [-1, 1]; height and width are multiples of the factor.

        Raises:
            ValueError: a side is not a multiple of the factor.
        """
        for side in pixels.shape[2:]:
            self._check_side(side)
        with _full_precision(pixels.device):
            return encode_raw(self.network, self.kind, pixels.float())

    @torch.no_grad()
    def decode(
        self, latents: Float[Tensor, "batch channels latent_height latent_width"]
    ) -> Images:
        """Decode normalised latents to images, clamped and rounded."""
        with _full_precision(latents.device):
            return to_images(decode_raw(self.network, self.kind, self.denormalise(latents)))

    def normalise(self, raw: Latents) -> Latents:
        """Normalise raw latents to about unit variance, in fp32."""
        return (raw.float() - self.shift) / self.scale

    def denormalise(self, latents: Latents) -> Latents:
        """Inverse of :meth:`normalise`, in fp32."""
        return latents.float() * self.scale + self.shift

    def sample(
        self, moments: Moments, noise: Float[Tensor, "batch channels height width"] | None
    ) -> Latents:
        """Sample the posterior and normalise.

        Args:
            moments: raw moments, as cached.
            noise: standard normal noise; None or zeros give the posterior mean.
        """
        if moments.std is None or noise is None:
            return self.normalise(moments.mean)
        return self.normalise(moments.mean.float() + moments.std.float() * noise.float())

    @cached_property
    def fingerprint(self) -> str:
        """Hash of architecture, weights and affine, 16 hexadecimal digits."""
        settings = architecture(self.settings, self.kind)
        digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
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


def _checked_metadata(folder: Path, settings: Mapping[str, Any]) -> dict[str, str]:
    """Metadata of a folder's weights, after a comparison of checksums, if there are any.

    Args:
        folder: an autoencoder's folder.
        settings: its architecture, see :func:`pippin.encoders.networks.architecture`.
    """
    metadata, path = read_metadata(folder), find_weights(folder).path
    if record := read_record(metadata, path):
        check_weights(record, load_tensors(path), settings, path)
    return metadata


def _own_affine(
    network: Any, kind: AutoencoderClass, metadata: Mapping[str, str], *, needed: bool
) -> Affine | None:
    """Affine of an autoencoder's own files.

    Raises:
        MissingStatisticsError: there is none, and it is needed.
        ValueError: its channel count differs.
    """
    config = affine_settings(network.config, kind, network.state_dict)
    channels = kind.layout(config).channels
    try:
        return Affine.from_weights(metadata, config, channels)
    except MissingStatisticsError:
        if needed:
            raise
        return None
