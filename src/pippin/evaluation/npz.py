# SPDX-License-Identifier: Apache-2.0
"""Reading ``.npz`` files of images and of statistics, as ADM's evaluator keeps them.

Nothing is unpickled, and images are read one batch at a time: such a file may be larger than the
memory.
"""

import struct
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

IMAGES = "arr_0"
"""The array of a file of images: uint8 (count, height, width, 3)."""

DAMAGE = (EOFError, OSError, RuntimeError, struct.error, zipfile.BadZipFile, zlib.error)
"""What a file that is not whole raises."""


def npz_names(path: Path) -> list[str]:
    """The arrays of a file.

    Raises:
        ValueError: no such file, or no ``.npz``.
    """
    if not path.is_file():
        raise ValueError(f"there is no file {path}; give a .npz")
    with _archive(path) as archive:
        return [name.removesuffix(".npy") for name in archive.namelist()]


def npz_array(path: Path, name: str) -> np.ndarray:
    """One array.

    Raises:
        ValueError: it is not there, is damaged, or is of Python objects, which are not read.
    """
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return np.asarray(arrays[name])
    except KeyError as error:
        raise ValueError(f"{path} holds no array {name!r}") from error
    except (ValueError, *DAMAGE) as error:
        raise ValueError(
            f"{name!r} of {path} cannot be read ({error}); wanted is a plain array of numbers or "
            "text: what is pickled is never read"
        ) from error


def npz_images(path: Path, batch_size: int) -> Iterator[UInt8[Tensor, "_ 3 _ _"]]:
    """The images of a file in order, one batch in memory at a time.

    Raises:
        ValueError: no uint8 array ``arr_0`` of the shape (count, height, width, 3), or a damaged
            file.
    """
    if IMAGES not in npz_names(path):
        raise ValueError(
            f"{path} holds no images; wanted is {IMAGES}, uint8 (count, height, width, 3)"
        )
    with _archive(path) as archive, _member(archive, path) as file:
        count, *shape = _image_shape(file, path)
        for start in range(0, count, batch_size):
            rows = min(batch_size, count - start)
            content = _exactly(file, rows * int(np.prod(shape)), path)
            images = np.frombuffer(content, np.uint8).reshape(rows, *shape)
            yield torch.from_numpy(images.copy()).permute(0, 3, 1, 2).contiguous()


def _archive(path: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(path)
    except DAMAGE as error:
        raise ValueError(f"{path} is no .npz file, or a damaged one: {error}") from error


def _member(archive: zipfile.ZipFile, path: Path) -> zipfile.ZipExtFile:
    try:
        file = archive.open(f"{IMAGES}.npy")
    except DAMAGE as error:
        raise ValueError(f"{IMAGES} of {path} is damaged: {error}") from error
    assert isinstance(file, zipfile.ZipExtFile)
    return file


def _image_shape(file: zipfile.ZipExtFile, path: Path) -> tuple[int, ...]:
    """From the array's header."""
    try:
        version = np.lib.format.read_magic(file)
        read = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }[version]
        shape, by_columns, kind = read(file)
    except (ValueError, KeyError, *DAMAGE) as error:
        raise ValueError(f"{IMAGES} of {path} cannot be read: {error}") from error
    if kind != np.uint8 or len(shape) != 4 or shape[3] != 3 or by_columns or 0 in shape:
        raise ValueError(
            f"{IMAGES} of {path} must be uint8 images (count, height, width, 3), row by row; it "
            f"is {kind} {shape}"
        )
    return shape


def _exactly(file: zipfile.ZipExtFile, size: int, path: Path) -> bytes:
    try:
        content = file.read(size)
    except DAMAGE as error:
        raise ValueError(f"{IMAGES} of {path} is damaged: {error}") from error
    if len(content) != size:
        raise ValueError(f"{IMAGES} of {path} ends too early: the file is damaged")
    return content
