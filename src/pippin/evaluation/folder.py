# SPDX-License-Identifier: Apache-2.0
"""A folder of image files as a stream of batches."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from jaxtyping import UInt8
from torch import Tensor

from pippin.image_files import SUFFIXES, read_image
from pippin.image_folder import find_images


def folder_images(path: Path | str, batch_size: int = 64) -> Iterator[UInt8[Tensor, "_ 3 _ _"]]:
    """All image files below a folder, in the order of their paths.

    They are those that a training on the folder finds, see :mod:`pippin.image_folder`. Files next
    to one another that have one size make a batch, so a folder of mixed sizes is read in smaller
    batches; features resize each image by itself. Pixels follow the rules of
    :func:`pippin.image_files.read_image`.

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
    """The image files below a folder, sorted: those of :func:`pippin.image_folder.find_images`.

    Raises:
        ValueError: no such folder, or no image in it.
        OSError: a folder that cannot be read.
    """
    if not folder.is_dir():
        raise ValueError(f"{folder} is no folder")
    found = sorted(find_images(folder).images.values())
    if not found:
        raise ValueError(
            f"{folder} and its subfolders hold no image; allowed are {', '.join(SUFFIXES)} files"
        )
    return found
