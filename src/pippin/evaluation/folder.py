# SPDX-License-Identifier: Apache-2.0
"""Stream of image batches from a folder of image files."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from jaxtyping import UInt8
from torch import Tensor

from pippin.image_files import SUFFIXES, read_image
from pippin.image_folder import find_images


def folder_images(path: Path | str, batch_size: int = 64) -> Iterator[UInt8[Tensor, "_ 3 _ _"]]:
    """All image files below a folder, in the order of their paths.

    The files are those that training on the folder uses, see :mod:`pippin.image_folder`.
    Consecutive files of equal size form a batch, so a folder of mixed sizes gives smaller batches;
    feature extractors resize each image individually. Files are decoded by
    :func:`pippin.image_files.read_image`.

    Raises:
        ValueError: no such folder, no image in it, or an unreadable file, which is named.
    """
    return image_batches(image_paths(Path(path)), batch_size)


def image_batches(paths: Sequence[Path], batch_size: int) -> Iterator[UInt8[Tensor, "_ 3 _ _"]]:
    """Batches of the given image files in order, one in memory at a time; see
    :func:`folder_images`."""
    pending: list[Tensor] = []
    for file in paths:
        image = read_image(file)
        if pending and (len(pending) == batch_size or pending[0].shape != image.shape):
            yield torch.stack(pending)
            pending = []
        pending.append(image)
    yield torch.stack(pending)


def image_paths(folder: Path) -> list[Path]:
    """Sorted paths of the image files that :func:`pippin.image_folder.find_images` lists.

    Raises:
        ValueError: no such folder, or no image in it.
        OSError: a folder that cannot be read.
    """
    if not folder.is_dir():
        raise ValueError(f"{folder} is not a folder; give a folder of images")
    paths = sorted(find_images(folder).images.values())
    if not paths:
        raise ValueError(
            f"{folder} and its subfolders hold no image; allowed are {', '.join(SUFFIXES)} files"
        )
    return paths
