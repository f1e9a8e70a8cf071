# SPDX-License-Identifier: Apache-2.0
"""Images on disk: single PNGs and grids."""

import math
from pathlib import Path

import torch
from PIL import Image

from pippin.system.files import replacing
from pippin.types import Images


def save_png(image: torch.Tensor, path: Path) -> None:
    """Write one uint8 (3, height, width) image; a file of that name is replaced whole.

    Not flushed to the disk: pictures can be made again, and a torn one cannot be read as one.
    """
    picture = Image.fromarray(image.permute(1, 2, 0).contiguous().numpy())
    with replacing(path, durable=False) as staging:
        picture.save(staging, format="PNG")


def grid(images: Images, columns: int | None = None, gap: int = 2) -> torch.Tensor:
    """One picture (3, H, W) of many, row by row, on light grey; default: about square."""
    columns = columns or math.ceil(math.sqrt(len(images)))
    rows = math.ceil(len(images) / columns)
    _, _, height, width = images.shape
    sheet = torch.full(
        (3, rows * (height + gap) + gap, columns * (width + gap) + gap), 224, dtype=torch.uint8
    )
    for place, image in enumerate(images):
        row, column = divmod(place, columns)
        top, left = gap + row * (height + gap), gap + column * (width + gap)
        sheet[:, top : top + height, left : left + width] = image
    return sheet
