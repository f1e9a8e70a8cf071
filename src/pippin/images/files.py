# SPDX-License-Identifier: Apache-2.0
"""Image files: supported formats, conversion to RGB, PNG files and image grids.

Training images and evaluated images are read by the same rules. Only the formats of
:data:`FORMATS` are opened, whatever the file name, and the size in a file's header is checked
before anything is decoded.
"""

import io
import math
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
from pippin.images.metadata import (
    ORIENTATION,
    Stream,
    exif_orientation,
    load_with_key,
    without_metadata,
)
from pippin.system.files import NotRegularError, atomic_write, open_regular
from pippin.types import Images

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff")
"""Suffixes of image files, in lower or upper case."""
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")
"""Pillow's names of the supported formats; its JPEG also reads MPO. Other formats run programs
(PostScript) or rarely tested decoders."""

ConversionRule = Literal[
    "grey",  # one channel becomes three equal ones
    "palette",  # colours are looked up
    "cmyk",  # converted without a colour profile
    "transparent",  # composited on white
    "colour key",  # the transparent colour is compared at the file's own bit depth
    "rotated",  # turned or mirrored as EXIF says
    "animated",  # the first frame, or the first page
    "16-bit colour",  # the upper eight bits of each channel
    "damaged metadata",  # EXIF, profile or texts cannot be read; the pixels can
]
CONVERSION_RULES: tuple[ConversionRule, ...] = get_args(ConversionRule)

UnreadableReason = Literal[
    "missing",
    "not permitted",
    "not a file",
    "system error",
    "broken",
    "over 8 bits",
    "too large",
]
"""Reason why a file cannot be read."""
PERMANENT_REASONS: frozenset[UnreadableReason] = frozenset(("broken", "over 8 bits", "too large"))
"""Reasons that persist as long as a file's bytes are unchanged; the others may be temporary."""

LARGE_IMAGE_PIXELS = 2**24
"""Number of pixels above which at most two images are decoded at a time, in all threads."""
BAND_ROWS = 256
"""Number of rows composited on white at a time."""

TRANSPOSES = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""EXIF orientation -> transpose that makes the image upright; 1 is as stored."""


_large_image_semaphore = threading.BoundedSemaphore(2)


def _reset_semaphore() -> None:
    """Reset the semaphore in a forked process, which has none of the threads that hold it."""
    global _large_image_semaphore
    _large_image_semaphore = threading.BoundedSemaphore(2)


os.register_at_fork(after_in_child=_reset_semaphore)


class UnreadableImageError(ValueError):
    """Image file that cannot be decoded."""

    def __init__(self, path: Path, reason: UnreadableReason, detail: str) -> None:
        super().__init__(f"{path} cannot be read as an image: {detail}")
        self.reason: UnreadableReason = reason
        self.detail = detail


@dataclass(frozen=True, kw_only=True)
class ImageFacts:
    """Facts about a fully decoded file."""

    size: Size
    """Size after EXIF rotation, as :func:`read_image` returns it."""
    rules: tuple[ConversionRule, ...]
    """Applied conversion rules, in the order of ``CONVERSION_RULES``."""


def read_image(path: Path) -> UInt8[Tensor, "3 height width"]:
    """Read one image file as RGB.

    Transparent pixels are composited on white, grey and palette images become RGB, CMYK is
    converted without its profile, EXIF rotation is applied. The first frame of an animation and
    the upper eight bits of 16-bit colour are used. Unreadable metadata is ignored.

    Raises:
        UnreadableImageError: missing, not a regular file, broken, truncated, 16-bit grey or
            floating-point, or a side above ``LARGEST_SIDE``.
    """
    image, _ = _decode(path)
    return _to_tensor(image)


def inspect_image(path: Path) -> ImageFacts:
    """Decode a file as :func:`read_image` does, and return its size and applied rules.

    Raises:
        UnreadableImageError: as :func:`read_image`.
    """
    image, rules = _decode(path)
    return ImageFacts(size=Size(image.height, image.width), rules=rules)


def decode_image(content: bytes, name: str) -> tuple[UInt8[Tensor, "3 height width"], ImageFacts]:
    """Decode the bytes of a file as :func:`read_image` does; also return its facts.

    Args:
        content: all bytes of the file.
        name: name of the image, for messages.

    Raises:
        UnreadableImageError: as :func:`read_image`.
    """
    try:
        image, rules = _decode_stream(io.BytesIO(content))
    except Exception as error:  # as for files
        raise UnreadableImageError(Path(name), *_explain(error)) from error
    return _to_tensor(image), ImageFacts(size=Size(image.height, image.width), rules=rules)


def _to_tensor(image: Image.Image) -> UInt8[Tensor, "3 height width"]:
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous()


class _UnsupportedImageError(Exception):
    """Intact image file of an unsupported kind."""

    def __init__(self, reason: UnreadableReason, detail: str) -> None:
        super().__init__(detail)
        self.reason: UnreadableReason = reason


def _decode(path: Path) -> tuple[Image.Image, tuple[ConversionRule, ...]]:
    try:
        with open_regular(path) as stream:
            return _decode_stream(stream)
    except Exception as error:  # Pillow's decoders raise many exception types on broken files
        raise UnreadableImageError(path, *_explain(error)) from error


def _decode_stream(stream: Stream) -> tuple[Image.Image, tuple[ConversionRule, ...]]:
    """RGB pixels of a file; decoding is repeated without metadata if it fails."""
    try:
        image, rules = _pixels(stream)
    except (_UnsupportedImageError, MemoryError, Image.DecompressionBombError):
        raise
    except Exception as error:  # the exception does not tell damaged metadata from damaged pixels
        if getattr(error, "errno", None) is not None:  # the disk's error, not the file's
            raise
        clean = without_metadata(stream)
        if clean is None:
            raise
        image, rules = _pixels(clean[0], exif=clean[1])
        rules.add("damaged metadata")
    return image, tuple(rule for rule in CONVERSION_RULES if rule in rules)


def _pixels(stream: Stream, exif: bytes = b"") -> tuple[Image.Image, set[ConversionRule]]:
    """RGB pixels of a file, and the applied rules.

    Args:
        stream: stream at any position.
        exif: EXIF block that was removed from it.
    """
    with Image.open(stream, formats=FORMATS) as file:
        _check_header(file)
        with (
            _large_image_semaphore
            if file.width * file.height > LARGE_IMAGE_PIXELS
            else nullcontext()
        ):
            return _loaded(file, stream, exif)


def _loaded(
    file: ImageFile.ImageFile, stream: Stream, exif: bytes
) -> tuple[Image.Image, set[ConversionRule]]:
    """RGB pixels of an opened file of an allowed size."""
    rules = _rules(file)
    image, is_key_rescaled = load_with_key(file, stream)
    if is_key_rescaled:
        rules.add("colour key")
    try:
        orientation = file.getexif().get(ORIENTATION, 1)
    except Exception:  # damaged EXIF raises many exception types
        rules.add("damaged metadata")
        orientation = exif_orientation(file.info.get("exif", b""))
    orientation = exif_orientation(exif) if exif else orientation
    if orientation in TRANSPOSES:
        rules.add("rotated")
        image = image.transpose(TRANSPOSES[orientation])
    return _on_white(image), rules


def _check_header(file: Image.Image) -> None:
    """Refuse a file by its header, before any pixel is decoded."""
    if max(file.size) > LARGEST_SIDE:
        raise _UnsupportedImageError(
            "too large",
            f"{file.height} x {file.width} pixels (height x width); the longest side allowed is "
            f"{LARGEST_SIDE}",
        )
    if file.mode.startswith(("I", "F")):
        raise _UnsupportedImageError(
            "over 8 bits",
            f"its pixels have mode {file.mode}, whose range is unknown; save it with 8 bits a "
            "channel",
        )


def _rules(file: Image.Image) -> set[ConversionRule]:
    """Conversion rules of an opened file that is not loaded yet."""
    is_16_bit = any(
        ";16" in str(tile[3]) for tile in getattr(file, "tile", ())
    )  # gone once loaded
    # Cameras' MPO files hold previews after the image: not an animation.
    is_animated = getattr(file, "is_animated", False) and file.format != "MPO"
    applies: dict[ConversionRule, bool] = {
        "grey": file.mode in ("1", "L", "LA", "La"),
        "palette": file.mode in ("P", "PA"),
        "cmyk": file.mode == "CMYK",
        "transparent": file.has_transparency_data,
        "animated": is_animated,
        "16-bit colour": is_16_bit,
    }
    return {rule for rule, is_applied in applies.items() if is_applied}


def _on_white(image: Image.Image) -> Image.Image:
    """RGB image, composited on white; band by band, to save memory for large images."""
    if not image.has_transparency_data:
        return image.convert("RGB")
    width, height = image.size
    output = Image.new("RGB", image.size)
    for top in range(0, height, BAND_ROWS):
        box = (0, top, width, min(top + BAND_ROWS, height))
        part = image.crop(box).convert("RGBA")
        white = Image.new("RGBA", part.size, (255, 255, 255, 255))
        output.paste(Image.alpha_composite(white, part).convert("RGB"), box)
    return output


def _explain(error: Exception) -> tuple[UnreadableReason, str]:
    """Reason and message for a file that could not be read."""
    explanation: Any
    match error:
        case _UnsupportedImageError():
            explanation = error.reason, str(error)
        case FileNotFoundError():
            explanation = "missing", "there is no such file"
        case NotRegularError():
            explanation = "not a file", f"it is {error.kind}"
        case PermissionError():
            explanation = "not permitted", error.strerror or "the system does not let it be read"
        case Image.DecompressionBombError():
            explanation = (
                "too large",
                f"{error}; the longest side allowed is {LARGEST_SIDE} pixels",
            )
        case UnidentifiedImageError():
            formats = ", ".join(FORMATS)
            explanation = (
                "broken",
                f"no image format is recognised in it; {formats} files are read",
            )
        case OSError() if error.errno is not None:  # Pillow's own errors of this class have none
            explanation = "system error", error.strerror or str(error)
        case MemoryError():
            explanation = "system error", "there is not enough memory to decode it"
        case _:
            explanation = "broken", str(error) or type(error).__name__
    return explanation


def to_pil(image: torch.Tensor) -> Image.Image:
    """One uint8 (3, height, width) image as Pillow's."""
    return Image.fromarray(image.permute(1, 2, 0).contiguous().numpy())


def save_png(image: torch.Tensor, path: Path) -> None:
    """Write one uint8 (3, height, width) image, replacing a file of that name atomically.

    The file is not flushed to disk: images can be sampled again, and a torn file is detected.
    """
    with atomic_write(path, durable=False) as staging:
        to_pil(image).save(staging, format="PNG")


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
