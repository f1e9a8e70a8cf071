# SPDX-License-Identifier: Apache-2.0
"""Identity in the place of an autoencoder's network: pixels are the latents."""

from typing import Any

from pippin.encoders.normalisation import ARCHITECTURE
from pippin.encoders.own_network import Decoded, Encoded, OwnNetwork
from pippin.types import Pixels

SETTINGS: dict[str, Any] = dict.fromkeys(ARCHITECTURE) | {
    "in_channels": 3,
    "out_channels": 3,
    "latent_channels": 3,
    "block_out_channels": [3],  # one level: the factor is 1
    "scaling_factor": 1.0,
}
"""Configuration with the names of AutoencoderKL's; what has no meaning here is None."""


class PixelNetwork(OwnNetwork):
    """Network without weights, with the interface of AutoencoderKL.

    Latents are pixels in [-1, 1]: three channels, factor 1, no variance.
    """

    def __init__(self) -> None:
        super().__init__(SETTINGS)

    def encode(self, pixels: Pixels) -> Encoded:
        """Pixels as latents."""
        return Encoded(latent=pixels)

    def decode(self, latents: Pixels) -> Decoded:
        """Latents as pixels, which :func:`pippin.encoders.normalisation.to_images` clamps."""
        return Decoded(sample=latents)
