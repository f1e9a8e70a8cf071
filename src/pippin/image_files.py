# SPDX-License-Identifier: Apache-2.0
"""Image files: which are read, and the rules by which each becomes RGB pixels.

The rules hold wherever files are read: as training pictures and as images to be measured. Only
the formats of :data:`FORMATS` are opened, whatever a file is called, and the size in a file's
header is checked before anything is decoded.
"""

import os
import threading
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image, ImageFile, UnidentifiedImageError
from torch import Tensor

from pippin.control import LARGEST_SIDE, Size
from pippin.image_metadata import ORIENTATION, Stream, exif_orientation, without_metadata
from pippin.png_transparency import load_with_key
from pippin.system.regular import NotRegularError, open_regular

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff")
"""Of files that are read; upper case counts too."""
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")
"""Pillow's names of the formats that are opened; its JPEG reads MPO too. Others run programs
(PostScript) or decoders that are little used."""

Rule = Literal[
    "grey",  # one channel becomes three equal ones
    "palette",  # colours are looked up
    "cmyk",  # converted without a colour profile
    "transparent",  # laid on white
    "colour key",  # the transparent colour is compared at the file's own bit depth
    "rotated",  # turned or mirrored as EXIF says
    "animated",  # the first frame, or the first page
    "16-bit colour",  # the upper eight bits of each channel
    "damaged metadata",  # EXIF, profile or texts cannot be read; the pixels can
]
RULES: tuple[Rule, ...] = get_args(Rule)

Reason = Literal[
    "missing",
    "not permitted",
    "not a file",
    "system error",
    "broken",
    "over 8 bits",
    "too large",
]
"""Why a file cannot be read."""
OF_BYTES: frozenset[Reason] = frozenset(("broken", "over 8 bits", "too large"))
"""Reasons that hold for as long as a file's bytes are the same; the others may pass."""

LARGE = 2**24
"""Pixels from which on few images are decoded at a time, whatever the number of threads."""
BAND = 256
"""Rows that are laid on white at a time."""

TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""EXIF orientation -> what makes the image upright; 1 is as stored."""


_large = threading.BoundedSemaphore(2)


def _renew() -> None:
    """A forked process has none of the threads that hold it."""
    global _large
    _large = threading.BoundedSemaphore(2)


os.register_at_fork(after_in_child=_renew)


class UnreadableImageError(ValueError):
    """A file that does not become pixels."""

    def __init__(self, path: Path, reason: Reason, detail: str) -> None:
        super().__init__(f"{path} cannot be read as an image: {detail}")
        self.reason: Reason = reason
        self.detail = detail


@dataclass(frozen=True, kw_only=True)
class ImageFacts:
    """What is known of a file once all of it has been decoded."""

    size: Size
    """After EXIF rotation: the size of what :func:`read_image` returns."""
    rules: tuple[Rule, ...]
    """Those that were applied, in the order of ``RULES``."""


def read_image(path: Path) -> UInt8[Tensor, "3 height width"]:
    """One image file as RGB.

    Transparent pixels are laid on white, grey and palette images become RGB, CMYK is converted
    without its profile, EXIF rotation is applied, of an animation the first frame counts, and of
    16 bits of colour the upper eight. Metadata that cannot be read is left out.

    Raises:
        UnreadableImageError: missing, no regular file, broken, truncated, 16-bit grey or
            floating-point, or a side above ``LARGEST_SIDE``.
    """
    image, _ = _decode(path)
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous()


def inspect_image(path: Path) -> ImageFacts:
    """Decode a whole file as :func:`read_image` does, and say what was met.

    Raises:
        UnreadableImageError: where :func:`read_image` raises it.
    """
    image, rules = _decode(path)
    return ImageFacts(size=Size(image.height, image.width), rules=rules)


class _RefusedError(Exception):
    """A file of a kind that is not read, however whole it is."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(detail)
        self.reason: Reason = reason


def _decode(path: Path) -> tuple[Image.Image, tuple[Rule, ...]]:
    try:
        with open_regular(path) as stream:
            return _tolerant(stream)
    except Exception as error:  # Pillow's decoders raise errors of many kinds on broken files
        raise UnreadableImageError(path, *_explained(error)) from error


def _tolerant(stream: Stream) -> tuple[Image.Image, tuple[Rule, ...]]:
    """RGB pixels of a file, if need be without its metadata."""
    try:
        image, met = _pixels(stream)
    except (_RefusedError, MemoryError, Image.DecompressionBombError):
        raise
    except Exception as error:  # what a decoder says does not tell metadata from pixels
        if getattr(error, "errno", None) is not None:  # the disk's error, not the file's
            raise
        clean = without_metadata(stream)
        if clean is None:
            raise
        image, met = _pixels(clean[0], exif=clean[1])
        met.add("damaged metadata")
    return image, tuple(rule for rule in RULES if rule in met)


def _pixels(stream: Stream, exif: bytes = b"") -> tuple[Image.Image, set[Rule]]:
    """RGB pixels of a file, and the rules that were met.

    Args:
        stream: at any place.
        exif: the block that was left out of it.
    """
    with Image.open(stream, formats=FORMATS) as file:
        _check_header(file)
        with _large if file.width * file.height > LARGE else nullcontext():
            return _loaded(file, stream, exif)


def _loaded(
    file: ImageFile.ImageFile, stream: Stream, exif: bytes
) -> tuple[Image.Image, set[Rule]]:
    """RGB pixels of an opened file of a size that is allowed."""
    met = _rules(file)
    image, is_mended = load_with_key(file, stream)
    if is_mended:
        met.add("colour key")
    try:
        turn = file.getexif().get(ORIENTATION, 1)
    except Exception:  # of as many kinds as there are ways to damage it
        met.add("damaged metadata")
        turn = exif_orientation(file.info.get("exif", b""))
    turn = exif_orientation(exif) if exif else turn
    if turn in TURNS:
        met.add("rotated")
        image = image.transpose(TURNS[turn])
    return _on_white(image), met


def _check_header(file: Image.Image) -> None:
    """Refuse by what is known before any pixel is decoded."""
    if max(file.size) > LARGEST_SIDE:
        raise _RefusedError(
            "too large",
            f"{file.height} x {file.width} pixels (height x width); the longest side allowed is "
            f"{LARGEST_SIDE}",
        )
    if file.mode.startswith(("I", "F")):
        raise _RefusedError(
            "over 8 bits",
            f"its pixels have mode {file.mode}, of which the range is not known; save it with 8 "
            "bits a channel",
        )


def _rules(file: Image.Image) -> set[Rule]:
    """The rules that apply to an opened file that is not loaded yet."""
    deep = any(";16" in str(tile[3]) for tile in getattr(file, "tile", ()))  # gone once loaded
    # Cameras' MPO files hold previews behind the picture: no animation.
    several = getattr(file, "is_animated", False) and file.format != "MPO"
    applies: dict[Rule, bool] = {
        "grey": file.mode in ("1", "L", "LA", "La"),
        "palette": file.mode in ("P", "PA"),
        "cmyk": file.mode == "CMYK",
        "transparent": file.has_transparency_data,
        "animated": several,
        "16-bit colour": deep,
    }
    return {rule for rule, does in applies.items() if does}


def _on_white(image: Image.Image) -> Image.Image:
    """RGB, with transparent pixels on white; band by band, for copies of large images add up."""
    if not image.has_transparency_data:
        return image.convert("RGB")
    width, height = image.size
    laid = Image.new("RGB", image.size)
    for top in range(0, height, BAND):
        box = (0, top, width, min(top + BAND, height))
        part = image.crop(box).convert("RGBA")
        white = Image.new("RGBA", part.size, (255, 255, 255, 255))
        laid.paste(Image.alpha_composite(white, part).convert("RGB"), box)
    return laid


def _explained(error: Exception) -> tuple[Reason, str]:
    """Why a file could not be read, as a kind and in words."""
    found: Any
    match error:
        case _RefusedError():
            found = error.reason, str(error)
        case FileNotFoundError():
            found = "missing", "there is no such file"
        case NotRegularError():
            found = "not a file", f"it is {error.kind}"
        case PermissionError():
            found = "not permitted", error.strerror or "the system does not let it be read"
        case Image.DecompressionBombError():
            found = "too large", f"{error}; the longest side allowed is {LARGEST_SIDE} pixels"
        case UnidentifiedImageError():
            known = ", ".join(FORMATS)
            found = "broken", f"no image format is recognised in it; {known} files are read"
        case OSError() if error.errno is not None:  # Pillow's own errors of this class have none
            found = "system error", error.strerror or str(error)
        case MemoryError():
            found = "system error", "there is not enough memory to decode it"
        case _:
            found = "broken", str(error) or type(error).__name__
    return found
