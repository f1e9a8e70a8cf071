# SPDX-License-Identifier: Apache-2.0
"""PNG files and image grids."""

import math
from pathlib import Path

import torch
from PIL import Image

from pippin.system.files import atomic_write
from pippin.types import Images


def save_png(image: torch.Tensor, path: Path) -> None:
    """Write one uint8 (3, height, width) image, replacing a file of that name atomically.

    The file is not flushed to disk: images can be sampled again, and a torn file is detected.
    """
    pil_image = Image.fromarray(image.permute(1, 2, 0).contiguous().numpy())
    with atomic_write(path, durable=False) as staging:
        pil_image.save(staging, format="PNG")


def image_grid(images: Images, columns: int | None = None, gap: int = 2) -> torch.Tensor:
    """Arrange images in one image (3, H, W), row by row, on light grey; default: about square."""
    columns = columns or math.ceil(math.sqrt(len(images)))
    rows = math.ceil(len(images) / columns)
    _, _, height, width = images.shape
    sheet = torch.full(
        (3, rows * (height + gap) + gap, columns * (width + gap) + gap), 224, dtype=torch.uint8
    )
    for index, image in enumerate(images):
        row, column = divmod(index, columns)
        top, left = gap + row * (height + gap), gap + column * (width + gap)
        sheet[:, top : top + height, left : left + width] = image
    return sheet
