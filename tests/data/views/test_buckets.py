# SPDX-License-Identifier: Apache-2.0
import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pippin.config import ConfigError, fingerprint, protocol
from pippin.control import Control, Size
from pippin.data.config import CropConfig, ImagesConfig
from pippin.data.views.buckets import bucket_sizes, nearest_bucket, size_name
from pippin.data.views.crop import apply_control, crop_size_of, draw_control

RATIOS = (0.5, 0.75, 1.0, 1.5, 2.0)
sides = st.integers(2, 90)
shapes = st.builds(Size, st.integers(1, 12), st.integers(1, 12))


def log_ratio(size: Size) -> float:
    return math.log(size.height / size.width)


def test_sizes_are_those_of_the_formula() -> None:
    sizes = bucket_sizes(64, (0.5, 1.0, 2.0), 8)
    assert sizes == ((48, 88), (64, 64), (88, 48))
    assert [size_name(size) for size in sizes] == ["48x88", "64x64", "88x48"]
    assert bucket_sizes(512, (0.25,), 16) == ((256, 1024),)


@settings(max_examples=50, deadline=None)
@given(st.integers(4, 40), st.sampled_from([8, 16, 64]), st.floats(0.25, 4))
def test_sides_are_multiples_and_the_area_is_about_that_of_the_square(
    steps: int, step: int, ratio: float
) -> None:
    resolution = steps * step
    (size,) = bucket_sizes(resolution, (ratio,), step)
    assert size.height % step == size.width % step == 0
    expected = (resolution * math.sqrt(ratio), resolution / math.sqrt(ratio))
    assert all(abs(a - b) <= step / 2 for a, b in zip(size, expected, strict=True))


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 5000), st.integers(1, 5000))
def test_a_image_is_in_the_nearest_bucket(height: int, width: int) -> None:
    sizes, image = bucket_sizes(256, RATIOS, 16), Size(height, width)

    def distance(size: Size) -> float:
        return abs(log_ratio(size) - log_ratio(image))

    assert distance(nearest_bucket(sizes, image)) <= min(map(distance, sizes)) + 1e-12


def test_half_way_the_wider_bucket_wins() -> None:
    sizes = bucket_sizes(64, (0.25, 1.0, 4.0), 16)
    assert nearest_bucket(sizes, Size(40, 20)) == (64, 64)
    assert nearest_bucket(sizes, Size(20, 40)) == (32, 128)


@pytest.mark.parametrize(
    ("given_settings", "message"),
    [
        ({"aspect_ratios": (1.0, 0.5)}, r"increasing order, each once; got \[1.0, 0.5\]"),
        ({"aspect_ratios": (1.0, 1.0)}, "each once"),
        ({"aspect_ratios": (0.0, 1.0)}, "from 0.0625 to 16"),
        ({"aspect_ratios": (math.nan,)}, "from 0.0625 to 16"),
        ({"aspect_ratios": (1.0, 17.0)}, "from 0.0625 to 16"),
        ({"aspect_ratios": (1.0, 1.01)}, "1 and 1.01 give the same bucket, 64x64"),
        ({"aspect_ratios": (1.0,), "bucket_step": 24}, "divide data.resolution.*24 and 64"),
        ({"aspect_ratios": (1.0,), "bucket_step": 0}, "data.bucket_step must be 1 or more"),
        ({"bucket_step": 8}, "bucket_step 8 has no effect without data.aspect_ratios"),
    ],
)
def test_ratios_that_make_no_buckets_are_refused(given_settings, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ImagesConfig(resolution=64, **given_settings)


def test_without_buckets_fingerprints_are_those_of_before() -> None:
    plain = ImagesConfig(path="x")
    assert fingerprint(plain) == "b965573bb6c061a8"
    assert not {"aspect_ratios", "bucket_step"} & set(protocol(plain))
    some = replace(plain, aspect_ratios=(1.0, 2.0))
    finer, more = replace(some, bucket_step=8), replace(some, aspect_ratios=(0.5, 1.0, 2.0))
    assert len({fingerprint(variant) for variant in (plain, some, finer, more)}) == 4
    assert protocol(some)["aspect_ratios"] == [1.0, 2.0]
    assert ImagesConfig.from_dict(some.to_dict()) == some


def test_an_empty_set_of_ratios_leaves_squares() -> None:
    config = ImagesConfig(resolution=48)
    assert config.view_sizes == (config.view_size(Size(10, 90)),) == ((48, 48),)


@settings(max_examples=60, deadline=None)
@given(sides, sides, shapes, st.floats(0.2, 1), st.sampled_from([0.0, 0.4]), st.integers(0, 2**31))
def test_a_bucket_crop_has_its_shape_and_replays_to_the_identical_tensor(
    height: int, width: int, shape: Size, smallest: float, local: float, seed: int
) -> None:
    size = Size(8 * shape.height, 8 * shape.width)
    law = CropConfig(smallest=smallest, largest=1.0, local_share=local)
    draws = torch.Generator().manual_seed(seed)
    source = torch.randint(0, 256, (3, height, width), generator=draws, dtype=torch.uint8)
    drawn = draw_control(Size(height, width), law, draws, size=size)
    (top, left), crop = drawn.crop_corner, drawn.crop_size
    assert 0 <= top <= height - crop.height and 0 <= left <= width - crop.width
    assert crop == crop_size_of(size, max(crop))
    # the shorter side is rounded, unless it would vanish
    exact = max(crop) * min(size) / max(size)
    assert abs(min(crop) - exact) <= 0.5 or min(crop) == 1
    image = apply_control(source, drawn, *size)
    assert image.shape == (3, *size)
    recorded = Control.from_values(drawn.values())
    assert recorded == drawn
    assert torch.equal(apply_control(source, recorded, *size), image)


@settings(max_examples=60, deadline=None)
@given(st.integers(20, 400), st.integers(20, 400), shapes)
def test_the_whole_law_gives_the_largest_crop_of_the_shape(
    height: int, width: int, shape: Size
) -> None:
    size = Size(8 * shape.height, 8 * shape.width)
    law = CropConfig(smallest=1.0, largest=1.0)
    draws = torch.Generator().manual_seed(0)
    crop = draw_control(Size(height, width), law, draws, size=size).crop_size
    assert crop.height == height or crop.width == width
    # so much longer that the shorter side is a pixel longer too, however it is rounded
    longer = crop_size_of(size, max(crop) + math.ceil(max(shape) / min(shape)))
    assert longer.height > height or longer.width > width


def test_a_crop_of_another_shape_is_refused() -> None:
    drawn = draw_control(
        Size(40, 60), CropConfig(), torch.Generator().manual_seed(0), size=Size(32, 64)
    )
    source = torch.zeros(3, 40, 60, dtype=torch.uint8)
    with pytest.raises(ValueError, match="must be square"):
        apply_control(source, drawn, 32)
    with pytest.raises(ValueError, match=r"in the shape of \(64, 32\)"):
        apply_control(source, drawn, 64, 32)


def test_local_views_of_a_bucket_are_not_resized() -> None:
    source = torch.randint(0, 256, (3, 90, 70), dtype=torch.uint8)
    law = CropConfig(local_share=1.0, flip_probability=0.0)
    size = Size(48, 32)
    drawn = draw_control(Size(90, 70), law, torch.Generator().manual_seed(1), size=size)
    (top, left) = drawn.crop_corner
    assert drawn.crop_size == size
    image = apply_control(source, drawn, *size)
    assert torch.equal(image, source[:, top : top + 48, left : left + 32])
