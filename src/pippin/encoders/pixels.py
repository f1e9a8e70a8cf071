# SPDX-License-Identifier: Apache-2.0
"""Identity in the place of an autoencoder's network: pixels are the latents."""

import json
from dataclasses import dataclass
from typing import Any

from diffusers.configuration_utils import FrozenDict
from torch import nn

from pippin.encoders.classes import PIXEL_CLASS
from pippin.encoders.normalisation import ARCHITECTURE
from pippin.types import Pixels

SETTINGS: dict[str, Any] = dict.fromkeys(ARCHITECTURE) | {
    "in_channels": 3,
    "out_channels": 3,
    "latent_channels": 3,
    "block_out_channels": [3],  # one level: the factor is 1
    "scaling_factor": 1.0,
}
"""Configuration with the names of AutoencoderKL's; what has no meaning here is None."""


@dataclass(frozen=True, kw_only=True)
class EncodedPixels:
    """Output of :meth:`PixelNetwork.encode`, in the form of diffusers."""

    latent: Pixels


@dataclass(frozen=True, kw_only=True)
class DecodedPixels:
    """Output of :meth:`PixelNetwork.decode`, in the form of diffusers."""

    sample: Pixels


class PixelNetwork(nn.Module):
    """Network without weights, with the interface of AutoencoderKL.

    Latents are pixels in [-1, 1]: three channels, factor 1, no variance.
    """

    def __init__(self) -> None:
        super().__init__()
        self.config: Any = FrozenDict(SETTINGS)

    def register_to_config(self, **settings: Any) -> None:
        """Replace settings."""
        self.config = FrozenDict(self.config | settings)

    def to_json_string(self) -> str:
        """Content of config.json."""
        return json.dumps({"_class_name": PIXEL_CLASS, **self.config}, indent=2) + "\n"

    def encode(self, pixels: Pixels) -> EncodedPixels:
        """Pixels as latents."""
        return EncodedPixels(latent=pixels)

    def decode(self, latents: Pixels) -> DecodedPixels:
        """Latents as pixels, which :func:`pippin.encoders.normalisation.to_images` clamps."""
        return DecodedPixels(sample=latents)
