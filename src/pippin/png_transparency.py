# SPDX-License-Identifier: Apache-2.0
"""The one colour of a PNG that counts as transparent, compared at the file's own bit depth.

PNG says (2003, section 11.3.2.1) that samples are compared as they are stored. Pillow compares
after it has scaled 2 and 4 bits of grey to eight and dropped the lower eight of 16 bits of colour.
"""

from typing import Any

import numpy as np
from PIL import Image, ImageFile

from pippin.image_metadata import Stream

KEY = "transparency"
"""Pillow's name for it in an image's ``info``: a number, or one for each channel."""
DEEP, LOW_BYTES = "RGB;16B", "RGB;16L"
"""Pillow's decoding of 16 bits of colour, and the same with each channel's bytes exchanged."""
_GREY = {"L;2": (3, 85), "L;4": (15, 17), "L": (255, 1)}
"""Decoding of grey -> the bits of a sample, and what they are multiplied by to become eight."""


def load_with_key(file: ImageFile.ImageFile, stream: Stream) -> tuple[Image.Image, bool]:
    """The pixels of an opened file, its transparent colour in the units of its pixels.

    Args:
        file: not loaded yet; it is loaded.
        stream: that it was opened from.

    Returns:
        The image, and whether Pillow alone would have compared with another colour.
    """
    key, decoding = file.info.get(KEY), _decoding(file)
    if key is None or decoding is None:
        file.load()
        return file, False
    if decoding == DEEP:
        del file.info[KEY]
        file.load()
        return _key_on_white(file, stream, key), True
    if decoding in _GREY:
        bits, factor = _GREY[decoding]
        file.info[KEY] = (key & bits) * factor
    else:
        file.info[KEY] = tuple(value & 255 for value in key)
    file.load()
    return file, file.info[KEY] != key


def _decoding(file: ImageFile.ImageFile) -> str | None:
    """Of a PNG that may have one transparent colour; None of others."""
    if file.format != "PNG" or not file.tile:
        return None
    decoding = str(file.tile[0][3])
    return decoding if decoding in (DEEP, "RGB", *_GREY) else None


def _key_on_white(file: Image.Image, stream: Stream, key: tuple[int, ...]) -> Image.Image:
    """Pixels of 16 bits a channel that have all bits of the key become white."""
    again: Any
    with Image.open(stream, formats=("PNG",)) as again:
        again.tile = [(*tile[:3], LOW_BYTES) for tile in again.tile]
        low = np.asarray(again)  # (height, width, 3)
    high, wanted = np.array(file), np.array(key)
    high[((high == wanted >> 8) & (low == wanted & 255)).all(axis=-1)] = 255
    return Image.fromarray(high)
