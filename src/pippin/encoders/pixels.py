# SPDX-License-Identifier: Apache-2.0
"""Images (uint8) to pixels (float in [-1, 1]) and back. Imports no diffusers."""

import torch

from pippin.types import Images, Pixels


def to_pixels(images: Images) -> Pixels:
    """uint8 0..255 -> float32 in [-1, 1]."""
    return images.float() / 127.5 - 1


def to_images(pixels: Pixels) -> Images:
    """Floats, clamped to [-1, 1] -> uint8 0..255, rounded."""
    levels = (pixels.float().clamp(-1, 1) + 1) * 127.5
    return levels.round().to(torch.uint8)
