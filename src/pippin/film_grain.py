# SPDX-License-Identifier: Apache-2.0
"""Film grain: a low-level change of an image whose strength is known exactly."""

import hashlib

import torch
from jaxtyping import UInt8
from torch import Tensor

from pippin.rng import generator

GRAIN_CELL = 2
"""Side in pixels of a cell of grain: finer noise hardly passes an autoencoder of factor 4."""


def add_grain(
    image: UInt8[Tensor, "3 height width"], level: float
) -> UInt8[Tensor, "3 height width"]:
    """Gaussian noise, one number for each cell of ``GRAIN_CELL`` pixels and all channels.

    As in film it is strongest in mid-tones and leaves black and white alone: a value v in [0, 1]
    gets 4 v (1 - v) times the noise, so that the mean stays and hardly anything is cut to 0..255.

    The pattern is keyed by the image's own pixels, so a control that is replayed on its source
    gives the same image. Views whose pixels differ have different patterns; views whose pixels are
    equal before the grain, as of a whole and unflipped source without jitter, share one, and only
    its level differs.

    Args:
        image: as it is without grain.
        level: standard deviation at mid-grey, in levels of 255.
    """
    digest = hashlib.sha256(image.contiguous().numpy().tobytes()).hexdigest()
    height, width = image.shape[1:]
    cells = (1, -(-height // GRAIN_CELL), -(-width // GRAIN_CELL))
    noise = torch.randn(cells, generator=generator("view", "grain", digest)) * level
    for dim in (1, 2):
        noise = noise.repeat_interleave(GRAIN_CELL, dim)
    value = image.float() / 255
    grainy = image + 4 * value * (1 - value) * noise[:, :height, :width]
    return grainy.round().clamp(0, 255).to(torch.uint8)
