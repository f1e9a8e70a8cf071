# SPDX-License-Identifier: Apache-2.0
import pytest
import torch

from pippin.control import Control, Corner, Size
from pippin.data.config import CropConfig, OpenMojiConfig
from pippin.data.sources.openmoji import OpenMojiSource
from pippin.data.sources.rasterise import rasterise
from pippin.data.views.crop import apply_control
from pippin.data.views.views import clean_view, counterfactual, make_view, make_views


@pytest.fixture(scope="module")
def emoji() -> OpenMojiSource:
    return OpenMojiSource(OpenMojiConfig(resolution=32, views=4, seed=2), "held-out")


def test_a_view_is_the_source_image_under_its_control(noise_source) -> None:
    for index in range(len(noise_source)):
        for view in range(3):
            built = make_view(noise_source, index, view)
            source = noise_source.image(index, view)
            assert built.control.original_size == source.shape[1:]
            assert torch.equal(built.image, apply_control(source, built.control, 8))
            assert built.label == index % 3


def test_a_view_depends_on_seed_image_and_view_only(noise_source, make_source) -> None:
    again = make_view(make_source(num_pictures=3), 2, 1)
    first = make_view(noise_source, 2, 1)
    assert again.control == first.control
    assert torch.equal(again.image, first.image)
    others = [make_view(noise_source, 2, 0), make_view(noise_source, 3, 1)]
    reseeded = make_source(config=OpenMojiConfig(resolution=8, views=3, seed=6))
    others.append(make_view(reseeded, 2, 1))
    assert all(other.control != first.control for other in others)


def test_the_tones_option_does_not_move_the_crops(emoji: OpenMojiSource) -> None:
    plain = OpenMojiSource(
        OpenMojiConfig(resolution=32, views=4, seed=2, tones="base-only"), "held-out"
    )
    for index in range(0, len(plain), 40):
        assert make_view(plain, index, 3).control == make_view(emoji, index, 3).control


def test_a_clean_view_is_the_whole_image_at_256(emoji: OpenMojiSource) -> None:
    view = clean_view(emoji, 5)
    whole = Control(
        original_size=Size(256, 256),
        crop_corner=Corner(0, 0),
        crop_size=Size(256, 256),
        flip=False,
    )
    assert view.control == whole
    assert torch.equal(view.image, apply_control(rasterise(emoji.key(5), 256), whole, 32))
    assert view.label == emoji.label(5)


def test_the_counterfactual_of_a_views_own_control_is_that_view(emoji: OpenMojiSource) -> None:
    for index in range(0, len(emoji), 30):
        built = make_view(emoji, index, 1)
        assert torch.equal(counterfactual(emoji, index, built.control, view=1), built.image)


def test_a_mirrored_counterfactual_is_the_mirror_image(emoji: OpenMojiSource) -> None:
    def at(flip: bool) -> torch.Tensor:
        requests = Control(
            original_size=Size(100, 100),
            crop_corner=Corner(10, 20),
            crop_size=Size(32, 32),
            flip=flip,
        )
        return counterfactual(emoji, 3, requests)

    assert torch.equal(at(True), at(False).flip(-1))


def test_a_smaller_original_is_the_same_image_with_less_detail(emoji: OpenMojiSource) -> None:
    def at(side: int) -> torch.Tensor:
        requests = Control(
            original_size=Size(side, side),
            crop_corner=Corner(0, 0),
            crop_size=Size(side, side),
            flip=False,
        )
        return counterfactual(emoji, 3, requests).float()

    small, large = at(12), at(256)
    other = clean_view(emoji, 60).image.float()
    assert float((small - large).abs().mean()) < 0.6 * float((other - large).abs().mean())

    def sharpness(image: torch.Tensor) -> float:
        return float(image.diff(dim=-1).square().mean())

    assert sharpness(small) < 0.8 * sharpness(large)


def test_stacked_views_are_the_single_ones(noise_source) -> None:
    batch = make_views(noise_source, [4, 0, 4], [2, 1, 0])
    singles = [make_view(noise_source, i, v) for i, v in ((4, 2), (0, 1), (4, 0))]
    assert torch.equal(batch.images, torch.stack([s.image for s in singles]))
    assert batch.label.tolist() == [1, 0, 1]
    corners = [tuple(map(float, s.control.crop_corner)) for s in singles]
    assert [tuple(row) for row in batch.control["crop_corner"].tolist()] == corners
    assert batch.control["flip"].flatten().tolist() == [float(s.control.flip) for s in singles]


@pytest.mark.parametrize("view", [-1, 3])
def test_a_view_out_of_range_is_refused(noise_source, view: int) -> None:
    with pytest.raises(ValueError, match=rf"range\(3\); got {view}"):
        make_view(noise_source, 0, view)


def test_whole_unflipped_views_of_a_law_without_freedom(make_source) -> None:
    law = CropConfig(smallest=1.0, largest=1.0, flip_probability=0.0)
    emoji = OpenMojiSource(OpenMojiConfig(resolution=16, crop_law=law), "held-out")
    control = make_view(emoji, 0, 0).control
    assert control.crop_size == control.original_size
    assert control.crop_corner == (0, 0)
    assert not control.flip
