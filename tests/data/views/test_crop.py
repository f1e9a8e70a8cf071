# SPDX-License-Identifier: Apache-2.0
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pippin.control import Augmentation, ColourJitter, Control, Corner, Size
from pippin.data.config import CropConfig
from pippin.data.views.crop import apply_control, draw_control, whole_image

sizes = st.integers(2, 60)
laws = st.tuples(st.floats(0.05, 1), st.floats(0.05, 1), st.sampled_from([0.0, 0.5, 1.0])).map(
    lambda t: CropConfig(smallest=min(t[:2]), largest=max(t[:2]), flip_probability=t[2])
)
factors = st.floats(0.25, 4)
looks = st.builds(
    Augmentation,
    colour_jitter=st.just(ColourJitter()) | st.builds(ColourJitter, factors, factors, factors),
    jpeg_quality=st.integers(1, 100),
)
seeds = st.integers(0, 2**31)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def ramps(height: int, width: int) -> torch.Tensor:
    """Channel 0 holds each pixel's column, channel 1 its row."""
    image = torch.zeros(3, height, width, dtype=torch.uint8)
    image[0] = torch.arange(width)
    image[1] = torch.arange(height)[:, None]
    return image


def control(
    size: tuple[int, int], corner: tuple[int, int], side: tuple[int, int], flip: bool
) -> Control:
    return Control(
        original_size=Size(*size), crop_corner=Corner(*corner), crop_size=Size(*side), flip=flip
    )


@settings(max_examples=25, deadline=None)
@given(sizes, sizes, laws, looks, seeds, st.integers(1, 40))
def test_replaying_the_control_gives_the_identical_tensor(
    height: int,
    width: int,
    law: CropConfig,
    augmentation: Augmentation,
    seed: int,
    resolution: int,
) -> None:
    draws = torch.Generator().manual_seed(seed)
    source = torch.randint(0, 256, (3, height, width), generator=draws, dtype=torch.uint8)
    drawn = draw_control(
        Size(height, width),
        law,
        draws,
        size=Size(resolution, resolution),
        augmentation=augmentation,
    )
    image = apply_control(source, drawn, resolution)
    assert image.shape == (3, resolution, resolution)
    recorded = Control.from_values(drawn.values())
    assert recorded == drawn
    assert torch.equal(apply_control(source, recorded, resolution), image)


@settings(max_examples=25, deadline=None)
@given(st.integers(20, 250), st.integers(20, 250), laws, seeds)
def test_corner_and_flip_are_found_back_from_the_pixels(
    height: int, width: int, law: CropConfig, seed: int
) -> None:
    source = ramps(height, width)
    drawn = draw_control(Size(height, width), law, seeded(seed), size=Size(16, 16))
    side = drawn.crop_size.height
    image = apply_control(source, drawn, side)  # no resize: pixels are coordinates
    columns = image[0, 0].flip(0) if drawn.flip else image[0, 0]
    assert (int(columns[0]), int(image[1, 0, 0])) == (
        drawn.crop_corner.left,
        drawn.crop_corner.top,
    )
    assert (int(columns[-1]), int(image[1, -1, 0])) == (
        drawn.crop_corner.left + side - 1,
        drawn.crop_corner.top + side - 1,
    )


@pytest.mark.parametrize("resolution", [16, 64, 200])
def test_a_resized_ramp_still_tells_the_corner(resolution: int) -> None:
    recorded = control((150, 240), (30, 100), (80, 80), False)
    image = apply_control(ramps(150, 240), recorded, resolution).float()
    centres = (torch.arange(resolution) + 0.5) * 80 / resolution - 0.5
    inner = slice(resolution // 8, -resolution // 8)  # the filter is one-sided at the border
    assert torch.allclose(image[0, 0, inner], 100 + centres[inner], atol=0.51)
    assert torch.allclose(image[1, inner, 0], 30 + centres[inner], atol=0.51)


@settings(max_examples=25, deadline=None)
@given(sizes, sizes, laws, seeds)
def test_drawn_crops_follow_the_law(height: int, width: int, law: CropConfig, seed: int) -> None:
    drawn = draw_control(Size(height, width), law, seeded(seed), size=Size(16, 16))
    (top, left), (side, other) = drawn.crop_corner, drawn.crop_size
    assert side == other
    assert 0 <= top <= height - side
    assert 0 <= left <= width - side
    shorter = min(height, width)
    assert max(1, law.smallest * shorter - 0.5) <= side + 1e-9
    assert side <= max(1, law.largest * shorter + 0.5)
    if law.flip_probability in (0.0, 1.0):
        assert drawn.flip == bool(law.flip_probability)


def test_corners_are_uniform_over_all_places() -> None:
    draws = torch.Generator().manual_seed(0)
    law = CropConfig(smallest=0.5, largest=0.5)
    drawn = [draw_control(Size(8, 9), law, draws, size=Size(16, 16)) for _ in range(3000)]
    top = torch.tensor([d.crop_corner.top for d in drawn]).bincount(minlength=5)
    left = torch.tensor([d.crop_corner.left for d in drawn]).bincount(minlength=6)
    assert len(top) == 5
    assert len(left) == 6
    assert float((top / 600 - 1).abs().max()) < 0.15  # four standard errors
    assert float((left / 500 - 1).abs().max()) < 0.17


def test_other_settings_do_not_move_the_other_draws() -> None:
    draw = [
        draw_control(Size(50, 70), CropConfig(flip_probability=p), seeded(3), size=Size(16, 16))
        for p in (0.0, 1.0)
    ]
    assert draw[0].crop_corner == draw[1].crop_corner
    assert draw[0].crop_size == draw[1].crop_size
    assert (draw[0].flip, draw[1].flip) == (False, True)


def test_flip_mirrors_the_crop_and_leaves_the_corner() -> None:
    source = torch.randint(0, 256, (3, 20, 30), dtype=torch.uint8)
    plain = apply_control(source, control((20, 30), (2, 5), (12, 12), False), 12)
    mirrored = apply_control(source, control((20, 30), (2, 5), (12, 12), True), 12)
    assert torch.equal(mirrored, plain.flip(-1))
    assert torch.equal(plain, source[:, 2:14, 5:17])


def test_the_resize_is_antialiased() -> None:
    checkerboard = (torch.arange(64)[:, None] + torch.arange(64)) % 2 * 255
    source = checkerboard.to(torch.uint8).expand(3, 64, 64).contiguous()
    image = apply_control(source, whole_image(Size(64, 64)), 8).float()
    assert float((image[:, 1:-1, 1:-1] - 127.5).abs().max()) < 2


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (control((20, 31), (0, 0), (10, 10), False), r"\(20, 31\).*\(20, 30\)"),
        (control((20, 30), (15, 0), (10, 10), False), r"\(10, 10\).*\(15, 0\).*\(20, 30\)"),
        (control((20, 30), (0, -1), (10, 10), False), r"\(0, -1\) does not fit"),
        (control((20, 30), (0, 0), (0, 0), False), r"\(0, 0\)"),
        (control((20, 30), (0, 0), (10, 12), False), r"square.*\(10, 12\)"),
    ],
)
def test_a_control_that_does_not_fit_is_refused(wrong: Control, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        apply_control(torch.zeros(3, 20, 30, dtype=torch.uint8), wrong, 8)


def test_a_whole_image_that_is_not_square_is_refused() -> None:
    with pytest.raises(ValueError, match="square"):
        whole_image(Size(20, 30))


@settings(max_examples=25, deadline=None)
@given(sizes, sizes, seeds, st.integers(1, 40))
def test_a_local_view_has_the_pixels_of_the_source(
    height: int, width: int, seed: int, resolution: int
) -> None:
    law = CropConfig(local_share=1.0, flip_probability=0.0)
    drawn = draw_control(Size(height, width), law, seeded(seed), size=Size(resolution, resolution))
    side = min(resolution, height, width)
    assert drawn.crop_size == (side, side)
    source = torch.randint(0, 256, (3, height, width), generator=seeded(seed)).to(torch.uint8)
    image = apply_control(source, drawn, resolution)
    if side == resolution:
        top, left = drawn.crop_corner
        assert torch.equal(image, source[:, top : top + side, left : left + side])


def test_a_mixture_has_its_share_of_local_views_and_leaves_the_others_as_they_are() -> None:
    size = Size(200, 240)
    plain, mixed = (CropConfig(local_share=share) for share in (0.0, 0.3))
    first = [draw_control(size, plain, seeded(k), size=Size(16, 16)) for k in range(2000)]
    second = [draw_control(size, mixed, seeded(k), size=Size(16, 16)) for k in range(2000)]
    local = [drawn.crop_size == (16, 16) for drawn in second]
    assert abs(sum(local) / 2000 - 0.3) < 5 * (0.3 * 0.7 / 2000) ** 0.5
    assert all(a == b for a, b, part in zip(first, second, local, strict=True) if not part)
