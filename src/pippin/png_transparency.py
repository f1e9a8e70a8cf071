# SPDX-License-Identifier: Apache-2.0
"""Transparent colour of a PNG (colour key), compared at the file's own bit depth.

PNG (2003, section 11.3.2.1) compares samples as they are stored. Pillow compares after scaling 2
and 4 bits of grey to eight, and after dropping the lower eight of 16 bits of colour.
"""

from typing import Any

import numpy as np
from PIL import Image, ImageFile

from pippin.image_metadata import Stream

KEY = "transparency"
"""Pillow's name of the colour key in an image's ``info``: one number, or one per channel."""
COLOUR_16_BIT, LOW_BYTES = "RGB;16B", "RGB;16L"
"""Pillow's decoders of 16-bit colour, and of the same with the bytes of each channel swapped."""
_GREY = {"L;2": (3, 85), "L;4": (15, 17), "L": (255, 1)}
"""Decoder of grey -> bit mask of a sample, and the factor that scales it to eight bits."""


def load_with_key(file: ImageFile.ImageFile, stream: Stream) -> tuple[Image.Image, bool]:
    """Load an opened file, with its colour key in the units of its pixels.

    Args:
        file: not loaded yet; it is loaded.
        stream: stream that it was opened from.

    Returns:
        The image, and True if Pillow alone would have used another colour key.
    """
    key, decoding = file.info.get(KEY), _decoding(file)
    if key is None or decoding is None:
        file.load()
        return file, False
    if decoding == COLOUR_16_BIT:
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
    """Pillow's decoder of a PNG that may have a colour key; None for other files."""
    if file.format != "PNG" or not file.tile:
        return None
    decoding = str(file.tile[0][3])
    return decoding if decoding in (COLOUR_16_BIT, "RGB", *_GREY) else None


def _key_on_white(file: Image.Image, stream: Stream, key: tuple[int, ...]) -> Image.Image:
    """Image of 16 bits a channel whose pixels of the key's colour are white."""
    reopened: Any
    with Image.open(stream, formats=("PNG",)) as reopened:
        reopened.tile = [(*tile[:3], LOW_BYTES) for tile in reopened.tile]
        low = np.asarray(reopened)  # (height, width, 3)
    high, key_values = np.array(file), np.array(key)
    high[((high == key_values >> 8) & (low == key_values & 255)).all(axis=-1)] = 255
    return Image.fromarray(high)
