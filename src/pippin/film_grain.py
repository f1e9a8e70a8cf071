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
    """Grey Gaussian noise, equal within cells of ``GRAIN_CELL`` pixels, cut to 0..255.

    The pattern is keyed by the image's own pixels: it differs from view to view, and a control
    that is replayed on its source gives the same image.

    Args:
        image: as it is without grain.
        level: standard deviation in levels of 255.
    """
    digest = hashlib.sha256(image.contiguous().numpy().tobytes()).hexdigest()
    height, width = image.shape[1:]
    cells = (1, -(-height // GRAIN_CELL), -(-width // GRAIN_CELL))
    noise = torch.randn(cells, generator=generator("view", "grain", digest)) * level
    for dim in (1, 2):
        noise = noise.repeat_interleave(GRAIN_CELL, dim)
    return (image + noise[:, :height, :width]).round().clamp(0, 255).to(torch.uint8)
