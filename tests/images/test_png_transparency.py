# SPDX-License-Identifier: Apache-2.0
"""Colour key of a PNG, at each bit depth, against the written samples."""

import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pippin.images.files import inspect_image, read_image

Write = Callable[..., np.ndarray]
GREY, RGB, PALETTE, GREY_ALPHA, RGB_ALPHA = 0, 2, 3, 4, 6
CHANNELS = {GREY: 1, RGB: 3, PALETTE: 1, GREY_ALPHA: 2, RGB_ALPHA: 4}
PASSES = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2))
ADAM7 = (*PASSES, (1, 0, 2, 1))
"""First row, first column, row step and column step of the seven passes of an interlaced PNG."""


def chunk(kind: bytes, content: bytes) -> bytes:
    check = struct.pack(">I", zlib.crc32(kind + content))
    return struct.pack(">I", len(content)) + kind + content + check


def packed(samples: np.ndarray, depth: int) -> bytes:
    """Rows of samples (height, width, channel), each after its filter byte."""
    rows = samples.reshape(len(samples), -1)
    if depth == 16:
        return b"".join(b"\0" + row.astype(">u2").tobytes() for row in rows)
    bits = (rows[:, :, None] >> np.arange(depth - 1, -1, -1)) & 1
    return b"".join(b"\0" + np.packbits(row.astype(np.uint8)).tobytes() for row in bits)


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Function that writes a PNG of samples and reads it back as (height, width, 3)."""

    def make(
        samples: np.ndarray, depth: int, colour: int, *chunks: bytes, interlaced: bool = False
    ) -> np.ndarray:
        height, width, _ = samples.shape
        header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlaced)
        parts = [samples]
        if interlaced:
            parts = [samples[row::down, column::right] for row, column, down, right in ADAM7]
        data = b"".join(packed(part, depth) for part in parts if part.size)
        content = chunk(b"IHDR", header) + b"".join(chunks) + chunk(b"IDAT", zlib.compress(data))
        path = tmp_path / "a.png"
        path.write_bytes(b"\x89PNG\r\n\x1a\n" + content + chunk(b"IEND", b""))
        return read_image(path).permute(1, 2, 0).numpy()

    return make


def samples(depth: int, channels: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 2**depth, (9, 11, channels), dtype=np.int64)


def key(*values: int) -> bytes:
    return chunk(b"tRNS", struct.pack(f">{len(values)}H", *values))


@pytest.mark.parametrize("interlaced", [False, True])
def test_16_bits_of_colour_are_compared_in_all_bits(
    write: Write, tmp_path: Path, interlaced: bool
) -> None:
    expected = samples(16, 3)
    expected[2:4] = (0x1234, 0x8000, 0xFFFF)
    expected[4] = (0x1234, 0x8000, 0xFFFE)  # the same upper eight bits
    expected[5] = (0x1235, 0x8000, 0xFFFF)
    result = write(expected, 16, RGB, key(0x1234, 0x8000, 0xFFFF), interlaced=interlaced)
    expected >>= 8
    expected[2:4] = 255
    assert (result == expected).all()
    rules = inspect_image(tmp_path / "a.png").rules
    assert rules == ("transparent", "colour key", "16-bit colour")


def test_a_16_bit_key_whose_numbers_fit_in_8_bits_is_no_8_bit_key(write: Write) -> None:
    expected = samples(16, 3)
    expected[2] = (0x0001, 0x0002, 0x0003)
    expected[3] = (0x0100, 0x0200, 0x0300)  # reads as 1, 2, 3
    result = write(expected, 16, RGB, key(1, 2, 3))
    assert (result[2] == 255).all()
    assert (result[3] == [1, 2, 3]).all()


@pytest.mark.parametrize(("depth", "factor"), [(1, 255), (2, 85), (4, 17), (8, 1)])
def test_grey_of_few_bits_is_compared_before_it_is_scaled(
    write: Write, depth: int, factor: int
) -> None:
    expected = samples(depth, 1)
    result = write(expected, depth, GREY, key(1))
    grey = np.where(expected == 1, 255, expected * factor)
    assert (result == grey).all()
    if depth < 8:  # and bits that no sample has do not count
        assert (write(expected, depth, GREY, key(1 + 2**depth)) == result).all()


def test_8_bits_of_colour_and_bits_of_the_key_that_no_sample_has(write: Write) -> None:
    expected = samples(8, 3)
    expected[3] = (1, 2, 3)
    plain = write(expected, 8, RGB, key(1, 2, 3))
    assert (plain[3] == 255).all()
    assert (write(expected, 8, RGB, key(0x101, 0x202, 3)) == plain).all()


@pytest.mark.parametrize("depth", [2, 8])
def test_palettes_have_one_transparency_for_each_entry(write: Write, depth: int) -> None:
    expected = samples(2, 1)
    colours = np.array([[10, 20, 30], [40, 50, 60], [70, 80, 90], [100, 110, 120]])
    palette = chunk(b"PLTE", bytes(colours.ravel().tolist()))
    result = write(expected, depth, PALETTE, palette, chunk(b"tRNS", bytes([0, 128])))
    alpha = np.array([0, 128, 255, 255])[:, None] / 255
    laid = np.round(colours * alpha + 255 * (1 - alpha))
    assert np.abs(result - laid[expected[..., 0]]).max() <= 1


@pytest.mark.parametrize(("colour", "depth"), [(GREY_ALPHA, 8), (GREY_ALPHA, 16), (RGB_ALPHA, 16)])
def test_an_alpha_channel_of_any_depth(write: Write, colour: int, depth: int) -> None:
    expected = samples(depth, CHANNELS[colour])
    result = write(expected, depth, colour)
    shown = (expected >> (depth - 8)).astype(float)
    share = shown[..., -1:] / 255
    assert np.abs(result - (shown[..., :-1] * share + 255 * (1 - share))).max() <= 1


def test_16_bits_of_grey_stay_refused_with_a_transparent_grey(write: Write) -> None:
    with pytest.raises(ValueError, match="8 bits a channel"):
        write(samples(16, 1), 16, GREY, key(7))
