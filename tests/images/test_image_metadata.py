# SPDX-License-Identifier: Apache-2.0
"""Images with unreadable metadata are decoded, with the pixels of the intact file."""

import io
import random
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms, PngImagePlugin

from pippin.images.files import UnreadableImageError, inspect_image, read_image
from pippin.images.metadata import exif_orientation, without_metadata

# Pillow warns of what is damaged here on purpose.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL")
NOISE = np.random.default_rng(0).integers(0, 256, (24, 20, 3), dtype=np.uint8)
XMP = b'<x:xmpmeta tiff:Orientation="6"/>'
LARGE = zlib.compress(b"a" * 2**21)
SHORT, TEXT, FLOAT, SIGNED = 3, 2, 11, 8
TURNED = (0x112, SHORT, 1, struct.pack("<H", 6))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "a.bin"


def saved(kind: str, **options: object) -> bytes:
    out = io.BytesIO()
    Image.fromarray(NOISE).save(out, kind, **options)
    return out.getvalue()


def chunk(kind: bytes, content: bytes) -> bytes:
    check = struct.pack(">I", zlib.crc32(kind + content))
    return struct.pack(">I", len(content)) + kind + content + check


def png(*chunks: bytes, after: bytes = b"") -> bytes:
    """PNG with chunks before and after the pixels."""
    raw = saved("PNG")
    start, end = raw.index(b"IDAT") - 4, len(raw) - 12
    return raw[:start] + b"".join(chunks) + raw[start:end] + after + raw[end:]


def tiff(*entries: tuple[int, int, int, bytes]) -> bytes:
    """Block of an EXIF segment."""
    head = b"II*\0" + struct.pack("<IH", 8, len(entries))
    rows = (struct.pack("<HHI", *entry[:3]) + entry[3].ljust(4, b"\0") for entry in entries)
    return head + b"".join(rows) + bytes(4)


def jpeg(*segments: tuple[int, bytes]) -> bytes:
    """JPEG with segments before all others."""
    raw = saved("JPEG")
    parts = (
        b"\xff" + bytes([marker]) + struct.pack(">H", len(content) + 2) + content
        for marker, content in segments
    )
    return raw[:2] + b"".join(parts) + raw[2:]


def exif_jpeg(*entries: tuple[int, int, int, bytes]) -> bytes:
    return jpeg((0xE1, b"Exif\0\0" + tiff(*entries)))


def pixels(path: Path, content: bytes) -> np.ndarray:
    path.write_bytes(content)
    return read_image(path).permute(1, 2, 0).numpy()


@pytest.mark.parametrize(
    "entries",
    [
        [TURNED, (0x128, SIGNED, 1, struct.pack("<h", -1))],
        [(0x100, TEXT, 4, b"abc\0"), TURNED],
        [(0x10E, FLOAT, 1, struct.pack("<f", float("inf"))), TURNED],
        [TURNED, (0x11A, 5, 1, struct.pack("<I", 2**31))],
        [TURNED, (0x8769, 4, 1, struct.pack("<I", 2**31))],
        [TURNED, (0x8825, TEXT, 4, b"abc\0")],
    ],
)
def test_an_odd_entry_of_exif_costs_neither_pixels_nor_rotation(path: Path, entries) -> None:
    upright = pixels(path, saved("JPEG"))
    assert (pixels(path, exif_jpeg(*entries)) == np.rot90(upright, -1)).all()
    assert "rotated" in inspect_image(path).rules


@pytest.mark.parametrize(
    "content",
    [
        png(chunk(b"zTXt", b"workflow\0\0" + LARGE)),
        png(chunk(b"iTXt", b"workflow\0\1\0\0\0" + LARGE)),
        png(after=chunk(b"zTXt", b"workflow\0\0" + LARGE)),
        png(chunk(b"iCCP", b"profile\0\0" + LARGE)),
        png(chunk(b"iCCP", b"profile\0\7abc")),
        png(chunk(b"tEXt", b"a\0b")[:-4] + bytes(4)),
        png(chunk(b"cHRM", b"ab"), chunk(b"gAMA", b""), chunk(b"pHYs", b"a")),
        png(*(chunk(b"zTXt", b"%d\0\0" % n + zlib.compress(bytes(2**20))) for n in range(70))),
        png(chunk(b"acTL", struct.pack(">II", 2, 0)), chunk(b"fcTL", bytes([9] * 26))),
        png(chunk(b"eXIf", b"garbage")),
    ],
    ids=[
        "ztxt",
        "itxt",
        "after",
        "iccp",
        "compression",
        "checksum",
        "short",
        "total",
        "animation",
        "exif",
    ],
)
def test_chunks_of_a_png_cost_no_pixels(path: Path, content: bytes) -> None:
    assert (pixels(path, content) == NOISE).all()
    assert inspect_image(path).rules == ("damaged metadata",)


def test_a_png_that_lost_its_texts_is_still_turned(path: Path) -> None:
    bomb = chunk(b"zTXt", b"workflow\0\0" + LARGE)
    exif = b"Exif\0\0" + tiff(TURNED)
    profile = b"Raw profile type exif\0\0" + zlib.compress(
        b"\nexif\n%8d\n" % len(exif) + exif.hex().encode() + b"\n"
    )
    for turn in (
        chunk(b"eXIf", tiff(TURNED)),
        chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + XMP),
        chunk(b"zTXt", profile),
    ):
        assert (pixels(path, png(bomb, turn)) == np.rot90(NOISE, -1)).all()
        assert inspect_image(path).rules == ("rotated", "damaged metadata")


@pytest.mark.parametrize("marker", [0xE0, 0xE1, 0xE2, 0xED, 0xEE, 0xFE])
@pytest.mark.parametrize(
    "content",
    [b"", b"JFIF\0", b"Adobe\0", b"Exif\0\0", b"MPF\0II*\0", b"ICC_PROFILE\0", b"Photoshop 3.0\0"],
)
def test_segments_of_a_jpeg_that_end_early_cost_no_pixels(
    path: Path, marker: int, content: bytes
) -> None:
    expected = pixels(path, saved("JPEG"))
    assert (pixels(path, jpeg((marker, content))) == expected).all()


def test_a_webp_with_garbage_as_exif(path: Path) -> None:
    assert (pixels(path, saved("WEBP", lossless=True, exif=b"garbage")) == NOISE).all()
    assert inspect_image(path).rules == ("damaged metadata",)


def test_colours_of_a_cmyk_jpeg_do_not_change_without_its_metadata(path: Path) -> None:
    cmyk = io.BytesIO()
    Image.fromarray(NOISE).convert("CMYK").save(cmyk, "JPEG", comment=b"ink")
    kept, exif = without_metadata(io.BytesIO(cmyk.getvalue())) or (io.BytesIO(), b"")
    assert b"ink" not in kept.read() and exif == b""
    kept.seek(0)
    assert (pixels(path, kept.read()) == pixels(path, cmyk.getvalue())).all()


def spans(kind: str, content: bytes) -> list[tuple[int, int]]:
    """Byte ranges of the metadata of a file, from its own lengths."""
    result, place = [], {"JPEG": 2, "MPO": 2, "PNG": 8, "WEBP": 12}[kind]
    while place + 8 <= len(content):
        name = content[place : place + 4]
        if kind == "PNG":
            (length,) = struct.unpack_from(">I", content, place)
            name, start, end = content[place + 4 : place + 8], place + 8, place + 12 + length
        elif kind == "WEBP":
            (length,) = struct.unpack_from("<I", content, place + 4)
            start, end = place + 8, place + 8 + length + length % 2
        else:
            (length,) = struct.unpack_from(">H", content, place + 2)
            start, end = place + 4, place + 2 + length
            if name[1] == 0xDA:
                break
        if name in (b"EXIF", b"XMP ", b"ICCP") or (kind == "PNG" and name[:1].islower()):
            result.append((start, end))
        if kind in ("JPEG", "MPO") and (0xE1 <= name[1] <= 0xED or name[1] == 0xFE):
            result.append((start, end))
        place = end
    return result


@pytest.mark.parametrize("kind", ["JPEG", "MPO", "PNG", "WEBP"])
def test_changed_bytes_of_metadata_leave_the_pixels(path: Path, kind: str) -> None:
    """Only the rotation may change."""
    exif = Image.Exif()
    exif[0x0112], exif[0x010E], exif[0x011A], exif[0x0128] = 6, "text " * 4, 72.0, 2
    texts = PngImagePlugin.PngInfo()
    texts.add_text("a", "hello" * 10, zip=True)
    texts.add_itxt("b", "world" * 10, zip=True)
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    options: dict[str, dict[str, object]] = {
        "JPEG": {"icc_profile": profile, "xmp": XMP, "comment": b"hello"},
        "MPO": {"save_all": True, "append_images": [Image.new("RGB", (5, 6))]},
        "PNG": {"icc_profile": profile, "pnginfo": texts, "dpi": (72, 72)},
        "WEBP": {"icc_profile": profile, "xmp": XMP, "lossless": True},
    }
    content = saved(kind, exif=exif, **options[kind])
    whole = pixels(path, content)
    turns = [np.rot90(whole, quarter) for quarter in range(4)]
    turns += [turn[:, ::-1] for turn in turns]
    places, draw = spans(kind, content), random.Random(0)
    assert len(places) >= 2
    for _ in range(150):
        changed = bytearray(content)
        for _ in range(draw.choice([1, 1, 4, 8])):
            changed[draw.choice(range(*draw.choice(places)))] = draw.choice([0, 1, 128, 255])
        result = pixels(path, bytes(changed))
        assert any(np.array_equal(result, turn) for turn in turns)


def test_damaged_pixels_are_still_broken(path: Path) -> None:
    for content in (png()[:-300], saved("JPEG")[:400], png().replace(b"IDAT", b"IDAX")):
        path.write_bytes(content)
        with pytest.raises(UnreadableImageError) as broken:
            read_image(path)
        assert broken.value.reason == "broken"


def test_the_orientation_is_read_by_itself() -> None:
    assert exif_orientation(tiff((0x10E, TEXT, 2**31, b"\xff" * 4), TURNED)) == 6
    assert exif_orientation(b"Exif\0\0" + tiff(TURNED)) == 6
    for block in (b"", b"garbage", tiff(TURNED)[:12], tiff()):
        assert exif_orientation(block) == 1


def test_only_png_and_jpeg_are_taken_apart() -> None:
    for content in (b"", b"GIF89a", png()[:40], saved("JPEG")[:30], saved("WEBP")):
        assert without_metadata(io.BytesIO(content)) is None
