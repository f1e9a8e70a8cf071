# SPDX-License-Identifier: Apache-2.0
"""From a configuration to a denoiser: the one table of architectures."""

from collections.abc import Callable
from typing import Any

from pippin.denoisers.config import DenoiserConfig
from pippin.denoisers.denoiser import Denoiser
from pippin.denoisers.dit import DiT
from pippin.denoisers.mmdit import MMDiT

ARCHITECTURES: dict[str, Callable[[Any, int], Denoiser]] = {"dit": DiT, "mmdit": MMDiT}


def build_denoiser(config: DenoiserConfig, latent_channels: int) -> Denoiser:
    """A denoiser, its weights not yet set by ``initialise`` or a checkpoint."""
    return ARCHITECTURES[config.kind](config, latent_channels)
