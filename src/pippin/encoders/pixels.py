# SPDX-License-Identifier: Apache-2.0
"""Conversion of images (uint8) to pixels (float in [-1, 1]) and back, without diffusers."""

import torch

from pippin.types import Images, Pixels


def to_pixels(images: Images) -> Pixels:
    """Convert uint8 0..255 to float32 in [-1, 1]."""
    return images.float() / 127.5 - 1


def to_images(pixels: Pixels) -> Images:
    """Convert floats, clamped to [-1, 1], to rounded uint8 0..255."""
    levels = (pixels.float().clamp(-1, 1) + 1) * 127.5
    return levels.round().to(torch.uint8)
