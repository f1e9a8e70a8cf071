# SPDX-License-Identifier: Apache-2.0
"""Image files: which are read, and the rules by which each becomes RGB pixels.

The rules hold wherever files are read: as training pictures and as images to be measured.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from pippin.control import Size

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff")
"""Of files that are read; upper case counts too."""

Rule = Literal[
    "grey",  # one channel becomes three equal ones
    "palette",  # colours are looked up
    "cmyk",  # converted without a colour profile
    "transparent",  # laid on white
    "rotated",  # turned or mirrored as EXIF says
    "animated",  # the first frame, or the first page
    "16-bit colour",  # the upper eight bits of each channel
]
RULES: tuple[Rule, ...] = get_args(Rule)

Reason = Literal["missing", "not permitted", "system error", "broken", "over 8 bits", "enormous"]
"""Why a file cannot be read."""
OF_BYTES: frozenset[Reason] = frozenset(("broken", "over 8 bits", "enormous"))
"""Reasons that hold for as long as a file's bytes are the same; the others may pass."""

ORIENTATION = 0x0112
"""The EXIF tag; 1 = as stored."""


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
    16 bits of colour the upper eight.

    Raises:
        UnreadableImageError: missing, broken, truncated, 16-bit grey or floating-point, or more
            pixels than twice ``PIL.Image.MAX_IMAGE_PIXELS``.
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


def _decode(path: Path) -> tuple[Image.Image, tuple[Rule, ...]]:
    try:
        with Image.open(path) as file:
            if file.mode.startswith(("I", "F")):
                raise UnreadableImageError(
                    path,
                    "over 8 bits",
                    f"its pixels have mode {file.mode}, of which the range is not known; save it "
                    "with 8 bits a channel",
                )
            met = _rules(file)
            return _on_white(ImageOps.exif_transpose(file)), met
    except UnreadableImageError:
        raise
    except Exception as error:  # Pillow's decoders raise errors of many kinds on broken files
        raise UnreadableImageError(path, *_explained(error)) from error


def _rules(file: Image.Image) -> tuple[Rule, ...]:
    """The rules that apply to an opened file."""
    deep = any(";16" in str(tile[3]) for tile in getattr(file, "tile", ()))  # gone once loaded
    # Cameras' MPO files hold previews behind the picture: no animation.
    several = getattr(file, "is_animated", False) and file.format != "MPO"
    applies: dict[Rule, bool] = {
        "grey": file.mode in ("1", "L", "LA", "La"),
        "palette": file.mode in ("P", "PA"),
        "cmyk": file.mode == "CMYK",
        "transparent": file.has_transparency_data,
        "rotated": file.getexif().get(ORIENTATION, 1) in range(2, 9),
        "animated": several,
        "16-bit colour": deep,
    }
    return tuple(rule for rule in RULES if applies[rule])


def _on_white(image: Image.Image) -> Image.Image:
    """RGB, with transparent pixels on white."""
    if not image.has_transparency_data:
        return image.convert("RGB")
    image = image.convert("RGBA")
    white = Image.new("RGBA", image.size, (255, 255, 255, 255))
    return Image.alpha_composite(white, image).convert("RGB")


def _explained(error: Exception) -> tuple[Reason, str]:
    """Why a file could not be read, as a kind and in words."""
    found: Any
    match error:
        case FileNotFoundError():
            found = "missing", "there is no such file"
        case PermissionError() | IsADirectoryError():
            found = "not permitted", error.strerror or "the system does not let it be read"
        case Image.DecompressionBombError():
            found = "enormous", f"it has too many pixels ({error})"
        case UnidentifiedImageError():
            found = "broken", "no image format is recognised in it"
        case OSError() if error.errno is not None:  # Pillow's own errors of this class have none
            found = "system error", error.strerror or str(error)
        case MemoryError():
            found = "system error", "there is not enough memory to decode it"
        case _:
            found = "broken", str(error) or type(error).__name__
    return found
