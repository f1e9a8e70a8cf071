# SPDX-License-Identifier: Apache-2.0
"""Picture files of noise, which no two seeds make alike."""

from pathlib import Path

import numpy as np
from PIL import Image


def write_noise(path: Path, seed: int, size: tuple[int, int]) -> None:
    """A picture of (height, width) pixels; its folder is made where it is missing."""
    noise = np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(noise).save(path)
