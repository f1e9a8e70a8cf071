# SPDX-License-Identifier: Apache-2.0
"""Conversion of image files to RGB, rule by rule."""

import errno
import os
import struct
import subprocess
import threading
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin

from pippin.control import LARGEST_SIDE
from pippin.images import files as image_files
from pippin.images.files import BAND_ROWS, UnreadableImageError, inspect_image, read_image

NOISE = np.random.default_rng(0).integers(0, 256, (6, 9, 4), dtype=np.uint8)  # height 6, width 9
UPRIGHT = {  # EXIF orientation -> transpose to upright, on (height, width, channel)
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: np.rot90(a, 2).transpose(1, 0, 2),
    8: lambda a: np.rot90(a, 1),
}


def read(path: Path) -> np.ndarray:
    """Pixels as (height, width, channel)."""
    return read_image(path).permute(1, 2, 0).numpy()


def png(width: int, height: int, depth: int, colour: int, rows: bytes) -> bytes:
    def chunk(kind: bytes, content: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + check

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    parts = (chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "a.png"


def test_rgb_passes_unchanged_and_meets_no_rule(path: Path) -> None:
    Image.fromarray(NOISE[..., :3]).save(path)
    assert (read(path) == NOISE[..., :3]).all()
    facts = inspect_image(path)
    assert facts.size == (6, 9)
    assert facts.rules == ()


def test_transparent_pixels_are_laid_on_white(path: Path) -> None:
    Image.fromarray(NOISE).save(path)
    colour, share = NOISE[..., :3].astype(float), NOISE[..., 3:] / 255
    expected = colour * share + 255 * (1 - share)
    assert np.abs(read(path) - expected).max() <= 1  # Pillow rounds in integers
    assert inspect_image(path).rules == ("transparent",)


def test_grey_becomes_three_equal_channels(path: Path) -> None:
    Image.fromarray(NOISE[..., 0]).save(path)
    assert (read(path) == NOISE[..., :1]).all()
    assert inspect_image(path).rules == ("grey",)


def test_grey_with_transparency_meets_both_rules(path: Path) -> None:
    Image.new("LA", (9, 6), (0, 0)).save(path)
    assert (read(path) == 255).all()
    assert inspect_image(path).rules == ("grey", "transparent")


def test_a_palette_is_looked_up(path: Path) -> None:
    image = Image.fromarray(NOISE[..., 0] % 2, mode="P")
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.save(path)
    expected = np.array([[10, 20, 30], [40, 50, 60]])[NOISE[..., 0] % 2]
    assert (read(path) == expected).all()
    assert inspect_image(path).rules == ("palette",)
    image.save(path, transparency=1)
    expected[NOISE[..., 0] % 2 == 1] = 255
    assert (read(path) == expected).all()
    assert inspect_image(path).rules == ("palette", "transparent")


def test_cmyk_is_converted_without_a_profile(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    Image.fromarray(NOISE, mode="CMYK").save(path)
    ink, black = NOISE[..., :3].astype(float), NOISE[..., 3:].astype(float)
    assert np.abs(read(path) - (255 - ink) * (255 - black) / 255).max() <= 1
    assert inspect_image(path).rules == ("cmyk",)


@pytest.mark.parametrize("orientation", UPRIGHT)
def test_exif_orientation_is_applied(path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(NOISE[..., :3]).save(path, exif=exif)
    expected = UPRIGHT[orientation](NOISE[..., :3])
    assert (read(path) == expected).all()
    facts = inspect_image(path)
    assert facts.size == expected.shape[:2]
    assert facts.rules == ("rotated",)


@pytest.mark.parametrize("name", ["a.gif", "a.webp", "a.tiff", "a.png"])
def test_the_first_frame_counts(tmp_path: Path, name: str) -> None:
    frames = [Image.new("RGB", (9, 6), colour) for colour in ("blue", "red")]
    options = {"lossless": True} if name == "a.webp" else {}
    frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:], **options)
    assert (read(tmp_path / name) == [0, 0, 255]).all()
    assert "animated" in inspect_image(tmp_path / name).rules


def test_of_16_bits_of_colour_the_upper_eight_count(path: Path) -> None:
    row = b"\0" + bytes(v for pixel in NOISE[0, :, :3] for c in pixel for v in (c, 255 - c))
    path.write_bytes(png(9, 1, 16, 2, row))
    assert (read(path)[0] == NOISE[0, :, :3]).all()
    assert inspect_image(path).rules == ("16-bit colour",)


def test_16_bit_grey_is_refused(path: Path) -> None:
    Image.fromarray(np.full((4, 4), 40000, dtype=np.uint16)).save(path)
    with pytest.raises(UnreadableImageError, match=r"a\.png .*8 bits a channel") as refused:
        read_image(path)
    assert refused.value.reason == "over 8 bits"


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize(("width", "height"), [(8193, 16), (16, 8193), (13_000, 13_000)])
def test_a_longer_side_than_allowed_is_refused_before_anything_is_decoded(
    path: Path, width: int, height: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    path.write_bytes(png(width, height, 8, 6, b""))
    monkeypatch.setattr(PngImagePlugin.PngImageFile, "load", lambda file: pytest.fail("decoded"))
    with pytest.raises(UnreadableImageError) as refused:
        read_image(path)
    assert refused.value.reason == "too large"
    assert refused.value.detail == (
        f"{height} x {width} pixels (height x width); the longest side allowed is 8192"
    )


def test_the_longest_side_allowed_is_read(path: Path) -> None:
    Image.new("L", (LARGEST_SIDE, 1)).save(path)
    assert read_image(path).shape == (3, 1, LARGEST_SIDE)


def test_more_pixels_than_pillow_allows_are_refused_with_our_limit(path: Path) -> None:
    path.write_bytes(png(20_000, 20_000, 8, 2, b""))
    with pytest.raises(UnreadableImageError, match="longest side allowed is 8192") as refused:
        read_image(path)
    assert refused.value.reason == "too large"


@pytest.mark.parametrize("kind", ["PPM", "ICO", "TGA", "PCX", "SGI", "JPEG2000", "DIB"])
def test_other_formats_are_not_opened_whatever_they_are_called(path: Path, kind: str) -> None:
    Image.fromarray(NOISE[..., :3]).resize((32, 32)).save(path, kind)
    with pytest.raises(UnreadableImageError, match="is recognised in it; PNG, JPEG") as refused:
        read_image(path)
    assert refused.value.reason == "broken"


def test_postscript_reaches_no_interpreter(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 64\n%%EndComments\n%%EOF\n")
    monkeypatch.setattr(subprocess, "Popen", lambda *_, **__: pytest.fail("a program was run"))
    with pytest.raises(UnreadableImageError, match="is recognised in it; PNG, JPEG"):
        read_image(path)


def test_an_mpo_file_of_a_camera_is_no_animation(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    frames = [Image.new("RGB", (9, 6), colour) for colour in ("blue", "red")]
    frames[0].save(path, "MPO", save_all=True, append_images=frames[1:])
    assert read_image(path)[2].min() > 250
    assert inspect_image(path).rules == ()


def test_what_is_no_regular_file_is_named_by_kind(path: Path) -> None:
    os.mkfifo(path)
    with pytest.raises(UnreadableImageError, match="it is a FIFO") as refused:
        read_image(path)
    assert refused.value.reason == "not a file"
    with pytest.raises(UnreadableImageError, match="it is a folder"):
        inspect_image(path.parent)


def test_an_error_of_the_disk_is_not_taken_for_damage(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.fromarray(NOISE).save(path)

    def failing(file: Image.Image) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(PngImagePlugin.PngImageFile, "load", failing)
    monkeypatch.setattr(
        "pippin.images.files.without_metadata", lambda _: pytest.fail("read again")
    )
    with pytest.raises(UnreadableImageError, match="Input/output error") as failed:
        read_image(path)
    assert failed.value.reason == "system error"


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "gif", "bmp", "tif"])
@settings(max_examples=25, deadline=None)
@given(share=st.floats(0, 0.9))
def test_a_cut_file_is_broken_and_named(
    tmp_path_factory: pytest.TempPathFactory, suffix: str, share: float
) -> None:
    path = tmp_path_factory.mktemp("cut") / f"a.{suffix}"
    noise = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    for reader in (read_image, inspect_image):
        with pytest.raises(UnreadableImageError, match=rf"a\.{suffix} cannot be read") as broken:
            reader(path)
        assert broken.value.reason == "broken"


@settings(max_examples=60, deadline=None)
@given(place=st.integers(0, 2000), value=st.integers(0, 255))
def test_a_changed_byte_gives_pixels_or_our_error(
    tmp_path_factory: pytest.TempPathFactory, place: int, value: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "changed.png"
    Image.fromarray(NOISE).save(path)
    content = bytearray(path.read_bytes())
    content[place % len(content)] = value
    path.write_bytes(content)
    try:
        assert read_image(path).dtype == torch.uint8
    except UnreadableImageError as error:
        assert error.detail


def test_a_missing_file_is_told_apart(tmp_path: Path) -> None:
    with pytest.raises(UnreadableImageError) as missing:
        read_image(tmp_path / "gone.png")
    assert missing.value.reason == "missing"


def test_transparency_is_laid_on_white_in_every_band(path: Path) -> None:
    noise = np.random.default_rng(1).integers(0, 256, (2 * BAND_ROWS + 3, 5, 4), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    image = Image.fromarray(noise)
    white = Image.new("RGBA", image.size, (255, 255, 255, 255))
    assert (read(path) == np.array(Image.alpha_composite(white, image).convert("RGB"))).all()


def test_few_large_images_are_decoded_at_once_and_a_forked_process_does_not_wait(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.fromarray(NOISE).save(path)
    monkeypatch.setattr(image_files, "LARGE_IMAGE_PIXELS", 10)
    held, asked = image_files._large_image_semaphore, threading.Event()
    for _ in range(2):
        held.acquire()

    class Noting:
        """The semaphore; tells when a reader asks for it."""

        def __enter__(self):
            asked.set()
            return held.__enter__()

        def __exit__(self, *_):
            held.release()

    monkeypatch.setattr(image_files, "_large_image_semaphore", Noting())
    try:
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(read_image, path)
            assert asked.wait(600) and not waiting.done()
            child = os.fork()
            if child == 0:  # pytest must not see more of it
                os._exit(int(inspect_image(path).size != (6, 9)))
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
            held.release()
            assert waiting.result().shape == (3, 6, 9)
    finally:
        held.release()
