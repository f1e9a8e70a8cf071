# SPDX-License-Identifier: Apache-2.0
"""Images inside notebooks: pixels are kept, captions are escaped, wrong requests are refused."""

import base64
import io

import numpy
import pytest
import torch
from html_page import Page
from PIL import Image

from pippin import show_images
from pippin.images.display import png_uri


def pixels_of(content):
    with Image.open(io.BytesIO(content)) as image:
        return torch.from_numpy(numpy.array(image)).permute(2, 0, 1)


@pytest.fixture
def noise():
    draws = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (3, 3, 4, 6), dtype=torch.uint8, generator=draws)


def test_a_data_uri_holds_the_pixels(noise):
    head, _, content = png_uri(noise[0]).partition(",")
    assert head == "data:image/png;base64"
    assert torch.equal(pixels_of(base64.b64decode(content)), noise[0])


def test_each_image_is_shown_above_its_caption(noise):
    page = Page(show_images(noise, ["seed 0", "seed 1", "<b>"], zoom=3)._repr_html_())
    images = [attributes for tag, attributes in page.elements if tag == "img"]
    assert [image["src"] for image in images] == [png_uri(image) for image in noise]
    assert {(image["width"], image["height"]) for image in images} == {("18", "12")}
    assert [text for text in page.text if text.strip()] == ["seed 0", "seed 1", "<b>"]
    assert {tag for tag, _ in page.elements} == {"div", "figure", "img", "figcaption"}


def test_a_caption_cannot_leave_its_attribute(noise):
    page = Page(show_images(noise[:1], ['" onerror="evil()'])._repr_html_())
    assert all("onerror" not in attributes for _, attributes in page.elements)


def test_the_png_is_one_grid(noise):
    shown = show_images(noise, columns=3)
    grid = pixels_of(shown._repr_png_())
    assert grid.shape == (3, 4 + 2 * 2, 3 * (6 + 2) + 2)
    assert torch.equal(grid[:, 2:6, 2:8], noise[0])
    assert repr(shown) == "3 images of 4 x 6 pixels"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"captions": ["one"]}, "1 captions for 3 images; give one for each"),
        ({"columns": 0}, "columns must be at least 1; got 0"),
        ({"zoom": -1}, "zoom must be at least 1; got -1"),
    ],
)
def test_a_wrong_request_is_refused(noise, options, said):
    with pytest.raises(ValueError, match=said):
        show_images(noise, **options)


@pytest.mark.parametrize("change", [lambda x: x[0], lambda x: x / 255, lambda x: x[:, :1]])
def test_other_tensors_are_refused_with_their_shape(noise, change):
    with pytest.raises(ValueError, match=r"uint8 of shape \(batch, 3, height, width\); got torch"):
        show_images(change(noise))


def test_an_empty_batch_is_refused(noise):
    with pytest.raises(ValueError, match="no images to show"):
        show_images(noise[:0])
