# SPDX-License-Identifier: Apache-2.0
"""Reader of ``.npz`` files of images and of statistics, in the format of ADM's evaluator.

Nothing is unpickled, and images are read one batch at a time: a file may be larger than memory.
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
"""Name of the array of images: uint8 (count, height, width, 3)."""

READ_ERRORS = (EOFError, OSError, RuntimeError, struct.error, zipfile.BadZipFile, zlib.error)
"""Exceptions that a damaged file raises."""


def npz_names(path: Path) -> list[str]:
    """Names of the arrays of a file.

    Raises:
        ValueError: no such file, or not a ``.npz``.
    """
    if not path.is_file():
        raise ValueError(f"there is no file {path}; give a .npz")
    with _archive(path) as archive:
        return [name.removesuffix(".npy") for name in archive.namelist()]


def npz_array(path: Path, name: str) -> np.ndarray:
    """One array of a file.

    Raises:
        ValueError: it is missing, damaged, or holds Python objects, which are never unpickled.
    """
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return np.asarray(arrays[name])
    except KeyError as error:
        raise ValueError(f"{path} holds no array {name!r}") from error
    except (ValueError, *READ_ERRORS) as error:
        raise ValueError(
            f"{name!r} of {path} cannot be read ({error}); give a plain array of numbers or text: "
            "pickled objects are never read"
        ) from error


def npz_images(path: Path, batch_size: int) -> Iterator[UInt8[Tensor, "_ 3 _ _"]]:
    """Image batches of a file in order, one batch in memory at a time.

    Raises:
        ValueError: no uint8 array ``arr_0`` of the shape (count, height, width, 3), or a damaged
            file.
    """
    if IMAGES not in npz_names(path):
        raise ValueError(
            f"{path} holds no images; needed is {IMAGES}, uint8 (count, height, width, 3)"
        )
    with _archive(path) as archive, _member(archive, path) as file:
        count, *shape = _image_shape(file, path)
        for start in range(0, count, batch_size):
            rows = min(batch_size, count - start)
            content = _read_exactly(file, rows * int(np.prod(shape)), path)
            images = np.frombuffer(content, np.uint8).reshape(rows, *shape)
            yield torch.from_numpy(images.copy()).permute(0, 3, 1, 2).contiguous()


def _archive(path: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(path)
    except READ_ERRORS as error:
        raise ValueError(f"{path} is no .npz file, or a damaged one: {error}") from error


def _member(archive: zipfile.ZipFile, path: Path) -> zipfile.ZipExtFile:
    try:
        file = archive.open(f"{IMAGES}.npy")
    except READ_ERRORS as error:
        raise ValueError(f"{IMAGES} of {path} is damaged: {error}") from error
    assert isinstance(file, zipfile.ZipExtFile)
    return file


def _image_shape(file: zipfile.ZipExtFile, path: Path) -> tuple[int, ...]:
    """Shape from the array's header."""
    try:
        version = np.lib.format.read_magic(file)
        read_header = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }[version]
        shape, is_fortran, dtype = read_header(file)
    except (ValueError, KeyError, *READ_ERRORS) as error:
        raise ValueError(f"{IMAGES} of {path} cannot be read: {error}") from error
    if dtype != np.uint8 or len(shape) != 4 or shape[3] != 3 or is_fortran or 0 in shape:
        raise ValueError(
            f"{IMAGES} of {path} must be uint8 images (count, height, width, 3), row by row; it "
            f"is {dtype} {shape}"
        )
    return shape


def _read_exactly(file: zipfile.ZipExtFile, size: int, path: Path) -> bytes:
    try:
        content = file.read(size)
    except READ_ERRORS as error:
        raise ValueError(f"{IMAGES} of {path} is damaged: {error}") from error
    if len(content) != size:
        raise ValueError(f"{IMAGES} of {path} ends too early: the file is damaged")
    return content
