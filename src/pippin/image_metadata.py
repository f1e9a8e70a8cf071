# SPDX-License-Identifier: Apache-2.0
"""Image files whose metadata cannot be read: their pixels are whole, so the rest is left out.

EXIF, colour profiles, texts and previews are chunks of a PNG and segments of a JPEG beside the
pixels. A decoder that parses one of them and fails would cost the image.
"""

import io
import struct
import zlib

Stream = io.BufferedReader | io.BytesIO
"""Bytes of a file that can be read from any place."""

LARGEST_FILE = 2**30
"""Bytes; larger files are not copied without their metadata."""
LARGEST_TEXT = 2**20
"""Bytes that a text chunk may have once it is decompressed."""

PNG, JPEG = b"\x89PNG\r\n\x1a\n", b"\xff\xd8"
XMP, EXIF_TEXT = b"XML:com.adobe.xmp", b"Raw profile type exif"
"""Keywords of the texts that can say how a PNG is turned."""
ORIENTATION = 0x0112
"""The EXIF tag; 1 = as stored."""
_JFIF, _ADOBE, _SCAN, _END = 0xE0, 0xEE, 0xDA, 0xD9
_NEEDED = {_JFIF: 14, _ADOBE: 12}
"""Segments that say which colours the numbers are, and the bytes that each must have."""
_BARE = (0x01, *range(0xD0, 0xD9))
"""Markers without a length."""


class _CutError(Exception):
    """The file ends inside a chunk or segment."""


def without_metadata(stream: Stream) -> tuple[io.BytesIO, bytes] | None:
    """The same PNG or JPEG without what its pixels do not need, and its EXIF block.

    Animations lose all but their first image. What says how the image is turned stays where it
    can be read.

    Returns:
        None where the file is neither, is larger than ``LARGEST_FILE``, or is cut.
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
    except _CutError:
        return None
    return io.BytesIO(kept), exif


def exif_orientation(block: bytes) -> int:
    """The orientation in an EXIF block, read by itself: other entries may be damaged.

    Returns:
        1 where there is none.
    """
    tiff = block.removeprefix(b"Exif\0\0")
    order = {b"II": "<", b"MM": ">"}.get(tiff[:2])
    if order is None:
        return 1
    try:
        (start,) = struct.unpack_from(f"{order}I", tiff, 4)
        (count,) = struct.unpack_from(f"{order}H", tiff, start)
        for place in range(start + 2, start + 2 + 12 * count, 12):
            tag, kind = struct.unpack_from(f"{order}HH", tiff, place)
            if (tag, kind) == (ORIENTATION, 3):
                return int(struct.unpack_from(f"{order}H", tiff, place + 8)[0])
    except struct.error:  # the block ends early
        return 1
    return 1


def _png(content: bytes) -> tuple[bytes, bytes]:
    """Critical chunks, transparency, and the first text of each kind that tells the rotation."""
    kept, exif, place, texts = [PNG], b"", len(PNG), set[bytes]()
    kind = b""
    while kind != b"IEND":
        if place + 12 > len(content):
            raise _CutError
        (length,) = struct.unpack_from(">I", content, place)
        kind, end = content[place + 4 : place + 8], place + 12 + length
        body, chunk = content[place + 8 : end - 4], content[place:end]
        if kind[:1].isupper() or kind == b"tRNS":
            kept.append(chunk)
        elif kind == b"eXIf":
            exif = body
        else:
            key = body.partition(b"\0")[0]
            wanted = key in (XMP, EXIF_TEXT) and key not in texts
            if wanted and _is_readable_text(kind, body, chunk):
                texts.add(key)
                kept.append(chunk)
        place = end
    return b"".join(kept), exif


def _is_readable_text(kind: bytes, body: bytes, chunk: bytes) -> bool:
    """Whether a text chunk is whole and not much larger than it looks."""
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
    """All but application segments and comments; those that decide the colours stay."""
    kept, exif, place = [JPEG], b"", len(JPEG)
    while True:
        while content[place : place + 2] == b"\xff\xff":  # fill bytes
            place += 1
        if place + 4 > len(content) or content[place] != 0xFF:
            raise _CutError
        marker = content[place + 1]
        if marker in (_SCAN, _END):
            return b"".join([*kept, content[place:]]), exif
        (length,) = (0,) if marker in _BARE else struct.unpack_from(">H", content, place + 2)
        segment = content[place : place + 2 + length]
        if marker == 0xE1 and segment[4:10] == b"Exif\0\0":
            exif = exif or segment[4:]
        is_metadata = 0xE0 <= marker <= 0xEF or marker == 0xFE
        if not is_metadata or length - 2 >= _NEEDED.get(marker, length):
            kept.append(segment)
        place += len(segment)
