# SPDX-License-Identifier: Apache-2.0
"""Film grain: a low-level augmentation of exactly known strength."""

import hashlib

import torch
from jaxtyping import UInt8
from torch import Tensor

from pippin.rng import generator

GRAIN_CELL = 2
"""Side in pixels of a grain cell: an autoencoder of factor 4 removes finer noise."""


def add_grain(
    image: UInt8[Tensor, "3 height width"], level: float
) -> UInt8[Tensor, "3 height width"]:
    """Add Gaussian noise, one number for each cell of ``GRAIN_CELL`` pixels and all channels.

    As in film, it is strongest in mid-tones and leaves black and white unchanged: a value v in
    [0, 1] gets 4 v (1 - v) times the noise, so that the mean is preserved and clipping is rare.

    The pattern is keyed by the image's pixels, so replaying a control on its source gives the same
    image. Views with different pixels have different patterns. Views with equal pixels before the
    grain, such as uncropped and unflipped views without jitter, share a pattern and differ only in
    its level.

    Args:
        image: image without grain.
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
