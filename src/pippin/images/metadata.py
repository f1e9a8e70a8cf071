# SPDX-License-Identifier: Apache-2.0
"""Metadata of image files: removal of unreadable parts, transparent colours of PNG files.

EXIF, colour profiles, texts and previews are chunks of a PNG and segments of a JPEG beside the
pixels. Without the removal of unreadable ones, a decoder that fails to parse one of them would
lose an image whose pixels are intact.

The transparent colour of a PNG (colour key) is compared at the file's own bit depth, as PNG (2003,
section 11.3.2.1) defines it. Pillow compares after scaling 2 and 4 bits of grey to eight, and
after dropping the lower eight of 16 bits of colour.
"""

import io
import struct
import zlib
from typing import Any

import numpy as np
from PIL import Image, ImageFile

Stream = io.BufferedReader | io.BytesIO
"""Seekable bytes of a file."""

LARGEST_FILE = 2**30
"""Largest size in bytes of a file that is copied without its metadata."""
LARGEST_TEXT = 2**20
"""Largest size in bytes of a decompressed text chunk."""

PNG, JPEG = b"\x89PNG\r\n\x1a\n", b"\xff\xd8"
XMP, EXIF_TEXT = b"XML:com.adobe.xmp", b"Raw profile type exif"
"""Keywords of the texts that can contain the orientation of a PNG."""
ORIENTATION = 0x0112
"""EXIF tag of the orientation; value 1 = as stored."""
_JFIF, _ADOBE, _SCAN, _END = 0xE0, 0xEE, 0xDA, 0xD9
_NEEDED = {_JFIF: 14, _ADOBE: 12}
"""Segments that define the colour space, and their smallest sizes in bytes."""
_BARE = (0x01, *range(0xD0, 0xD9))
"""Markers without a length."""


class _TruncatedError(Exception):
    """File that ends inside a chunk or segment."""


def without_metadata(stream: Stream) -> tuple[io.BytesIO, bytes] | None:
    """PNG or JPEG without the metadata that its pixels do not need, and its EXIF block.

    Animations keep their first image only. Readable orientation metadata is kept.

    Returns:
        None if the file is neither, is larger than ``LARGEST_FILE``, or is truncated.
    """
    stream.seek(0)
    signature = stream.read(len(PNG))
    clean = _png if signature == PNG else _jpeg if signature.startswith(JPEG) else None
    stream.seek(0)
    content = stream.read(LARGEST_FILE + 1) if clean else b""
    if clean is None or len(content) > LARGEST_FILE:
        return None
    try:
        kept, exif = clean(content)
    except _TruncatedError:
        return None
    return io.BytesIO(kept), exif


def exif_orientation(block: bytes) -> int:
    """Orientation of an EXIF block, read alone, since other entries may be damaged.

    Returns:
        The orientation; 1 if there is none.
    """
    tiff = block.removeprefix(b"Exif\0\0")
    order = {b"II": "<", b"MM": ">"}.get(tiff[:2])
    if order is None:
        return 1
    try:
        (start,) = struct.unpack_from(f"{order}I", tiff, 4)
        (count,) = struct.unpack_from(f"{order}H", tiff, start)
        for offset in range(start + 2, start + 2 + 12 * count, 12):
            tag, kind = struct.unpack_from(f"{order}HH", tiff, offset)
            if (tag, kind) == (ORIENTATION, 3):
                return int(struct.unpack_from(f"{order}H", tiff, offset + 8)[0])
    except struct.error:  # the block ends early
        return 1
    return 1


def _png(content: bytes) -> tuple[bytes, bytes]:
    """PNG with critical chunks, transparency, and the first text of each kind that contains the
    orientation."""
    kept, exif, offset, texts = [PNG], b"", len(PNG), set[bytes]()
    kind = b""
    while kind != b"IEND":
        if offset + 12 > len(content):
            raise _TruncatedError
        (length,) = struct.unpack_from(">I", content, offset)
        kind, end = content[offset + 4 : offset + 8], offset + 12 + length
        body, chunk = content[offset + 8 : end - 4], content[offset:end]
        if kind[:1].isupper() or kind == b"tRNS":
            kept.append(chunk)
        elif kind == b"eXIf":
            exif = body
        else:
            key = body.partition(b"\0")[0]
            is_needed = key in (XMP, EXIF_TEXT) and key not in texts
            if is_needed and _is_readable_text(kind, body, chunk):
                texts.add(key)
                kept.append(chunk)
        offset = end
    return b"".join(kept), exif


def _is_readable_text(kind: bytes, body: bytes, chunk: bytes) -> bool:
    """True if a text chunk is intact and small after decompression."""
    if zlib.crc32(chunk[4:-4]) != int.from_bytes(chunk[-4:], "big") or len(body) > LARGEST_TEXT:
        return False
    text = body.partition(b"\0")[2]
    match kind:
        case b"tEXt":
            return True
        case b"iTXt":
            return text[:1] == b"\0"  # not compressed
        case b"zTXt":
            return text[:1] == b"\0" and _is_small(text[1:])
        case _:
            return False


def _is_small(compressed: bytes) -> bool:
    try:
        text = zlib.decompressobj().decompress(compressed, LARGEST_TEXT + 1)
    except zlib.error:
        return False
    return len(text) <= LARGEST_TEXT


def _jpeg(content: bytes) -> tuple[bytes, bytes]:
    """JPEG without comments and application segments, except those of the colour space."""
    kept, exif, offset = [JPEG], b"", len(JPEG)
    while True:
        while content[offset : offset + 2] == b"\xff\xff":  # fill bytes
            offset += 1
        if offset + 4 > len(content) or content[offset] != 0xFF:
            raise _TruncatedError
        marker = content[offset + 1]
        if marker in (_SCAN, _END):
            return b"".join([*kept, content[offset:]]), exif
        (length,) = (0,) if marker in _BARE else struct.unpack_from(">H", content, offset + 2)
        segment = content[offset : offset + 2 + length]
        if marker == 0xE1 and segment[4:10] == b"Exif\0\0":
            exif = exif or segment[4:]
        is_metadata = 0xE0 <= marker <= 0xEF or marker == 0xFE
        if not is_metadata or length - 2 >= _NEEDED.get(marker, length):
            kept.append(segment)
        offset += len(segment)


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
