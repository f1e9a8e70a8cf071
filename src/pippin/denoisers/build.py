# SPDX-License-Identifier: Apache-2.0
"""From a configuration to a denoiser: the one table of architectures."""

from collections.abc import Callable
from typing import Any

from pippin.denoisers.config import DenoiserConfig
from pippin.denoisers.denoiser import Denoiser
from pippin.denoisers.dit import DiT
from pippin.denoisers.mdtv2 import MDTv2
from pippin.denoisers.mmdit import MMDiT
from pippin.denoisers.pixart import PixArt
from pippin.denoisers.unet import UNet

ARCHITECTURES: dict[str, Callable[[Any, int], Denoiser]] = {
    "dit": DiT,
    "mdtv2": MDTv2,
    "pixart": PixArt,
    "mmdit": MMDiT,
    "unet": UNet,
}


def build_denoiser(config: DenoiserConfig, latent_channels: int) -> Denoiser:
    """A denoiser, its weights not yet set by ``initialise`` or a checkpoint."""
    return ARCHITECTURES[config.kind](config, latent_channels)
