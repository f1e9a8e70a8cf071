# SPDX-License-Identifier: Apache-2.0
"""Image files of noise, different for every seed."""

from pathlib import Path

import numpy as np
from PIL import Image


def write_noise(path: Path, seed: int, size: tuple[int, int]) -> None:
    """Write an image of (height, width) pixels, and create its folder if missing."""
    noise = np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(noise).save(path)
