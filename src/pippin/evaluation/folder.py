# SPDX-License-Identifier: Apache-2.0
"""A folder of image files as a stream of batches."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image, ImageOps
from torch import Tensor

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")


def folder_images(path: Path | str, batch_size: int = 64) -> Iterator[UInt8[Tensor, "_ 3 _ _"]]:
    """All PNG, JPEG and WebP files below a folder, in the order of their paths.

    Other files are passed over. Files next to one another that have one size make a batch, so a
    folder of mixed sizes is read in smaller batches; features resize each image by itself.
    Transparent pixels are laid on white, grey becomes RGB, EXIF rotation is applied, of an
    animation the first frame counts.

    Raises:
        ValueError: no such folder, no image in it, or a file that cannot be read, by name.
    """
    return image_batches(image_paths(Path(path)), batch_size)


def image_batches(paths: Sequence[Path], batch_size: int) -> Iterator[UInt8[Tensor, "_ 3 _ _"]]:
    """The given image files in order, one batch in memory at a time; see :func:`folder_images`."""
    waiting: list[Tensor] = []
    for file in paths:
        image = read_image(file)
        if waiting and (len(waiting) == batch_size or waiting[0].shape != image.shape):
            yield torch.stack(waiting)
            waiting = []
        waiting.append(image)
    yield torch.stack(waiting)


def image_paths(folder: Path) -> list[Path]:
    """The image files below a folder, sorted.

    Raises:
        ValueError: no such folder, or no image in it.
    """
    if not folder.is_dir():
        raise ValueError(f"{folder} is no folder")
    files = (path for path in folder.rglob("*") if path.is_file())
    found = sorted(path for path in files if path.suffix.lower() in SUFFIXES)
    if not found:
        raise ValueError(
            f"{folder} and its subfolders hold no image; allowed are {', '.join(SUFFIXES)} files"
        )
    return found


def read_image(path: Path) -> UInt8[Tensor, "3 height width"]:
    """One image file as RGB on white.

    Raises:
        ValueError: the file is broken, or holds more than 8 bits a channel.
    """
    try:
        with Image.open(path) as file:
            image = ImageOps.exif_transpose(file)
            if image.mode.startswith(("I", "F")):
                raise ValueError(
                    f"{path} has pixels of mode {image.mode}; save it with 8 bits a channel"
                )
            image = image.convert("RGBA")
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"{path} cannot be read as an image: {error}") from error
    white = Image.new("RGBA", image.size, (255, 255, 255, 255))
    pixels = np.array(Image.alpha_composite(white, image).convert("RGB"))
    return torch.from_numpy(pixels).permute(2, 0, 1).contiguous()
