# SPDX-License-Identifier: Apache-2.0
import pytest
import torch
from torch.nn.functional import interpolate
from torchvision.transforms.v2 import functional

from pippin.config import ConfigError
from pippin.control import AUGMENTATION_FIELDS, CONTROL_FIELDS, Augmentation, ColourJitter
from pippin.data.config import AugmentationConfig, CorrelationConfig, OpenMojiConfig
from pippin.data.moments import EncodedViews
from pippin.data.views.augmentation import CLEAN, apply_augmentation, draw_augmentation
from pippin.data.views.pixel_changes import PIXEL_CHANGES, add_grain, compress, grain_level
from pippin.data.views.size import ClassCopula, class_scores
from pippin.data.views.views import make_view, view_control

NOISE = torch.randint(0, 256, (3, 24, 24), generator=torch.Generator().manual_seed(0)).to(
    torch.uint8
)
STRONG = AugmentationConfig(colour_jitter=1.0, jpeg_share=0.5, jpeg_smallest=20, jpeg_largest=30)


def looks(law: AugmentationConfig, count: int = 2000) -> list[Augmentation]:
    draws = torch.Generator().manual_seed(1)
    return [draw_augmentation(law, draws) for _ in range(count)]


def test_clean_is_the_same_tensor():
    assert torch.equal(apply_augmentation(NOISE, CLEAN), NOISE)
    assert looks(AugmentationConfig(), 5) == [CLEAN] * 5


def test_jitter_is_log_uniform_between_its_ends():
    factors = torch.tensor([augmentation.colour_jitter for augmentation in looks(STRONG)])
    assert factors.min() >= 0.5 and factors.max() <= 2
    logs = factors.log() / torch.tensor(2.0).log()
    # uniform in [-1, 1]: mean 0, variance 1/3; 5 standard errors of 6000 numbers
    assert abs(logs.mean()) < 5 * (1 / 3 / 6000) ** 0.5
    assert abs(logs.square().mean() - 1 / 3) < 5 * (4 / 45 / 6000) ** 0.5


def test_the_stated_share_is_compressed_at_the_stated_qualities():
    qualities = [augmentation.jpeg_quality for augmentation in looks(STRONG)]
    compressed = [quality for quality in qualities if quality < 100]
    assert abs(len(compressed) / 2000 - 0.5) < 5 * (0.25 / 2000) ** 0.5
    assert set(compressed) == set(range(20, 31))


@pytest.mark.parametrize(
    ("jitter", "expected"),
    [
        (ColourJitter(brightness=0.5), lambda x: x * 0.5),
        (ColourJitter(saturation=0.25), None),
    ],
)
def test_factors_do_what_their_names_say(jitter, expected):
    image = NOISE // 2
    result = apply_augmentation(image, Augmentation(colour_jitter=jitter)).float()
    if expected is not None:
        assert (result - expected(image.float())).abs().max() <= 1
    spread = image.float().std(0).mean(), result.std(0).mean()
    assert abs(spread[1] / spread[0] - jitter.brightness * jitter.saturation) < 0.05


def test_looks_are_applied_in_their_documented_order():
    """Manual formulas, on a grey image that no factor drives out of range."""
    grey = torch.full((3, 8, 8), 100, dtype=torch.uint8)
    grey[:, ::2] = 60
    brighter = 1.2 * grey.float()  # 120 and 72, mean 96
    expected = 96 + 0.5 * (brighter - 96)  # 108 and 84; saturation leaves grey as it is
    augmentation = Augmentation(
        colour_jitter=ColourJitter(brightness=1.2, contrast=0.5, saturation=2.0)
    )
    result = apply_augmentation(grey, augmentation).float()
    assert (result - expected).abs().max() <= 1
    dark = torch.full((3, 8, 8), 240, dtype=torch.uint8)
    dark[:, ::2] = 40
    cut = apply_augmentation(
        dark, Augmentation(colour_jitter=ColourJitter(brightness=2.0, contrast=0.5))
    ).float()
    # brightness first: 255 (cut) and 80, mean 167.5, so 211 and 124; contrast first would give 380
    assert (cut[0, 1, 0], cut[0, 0, 0]) == (pytest.approx(211, abs=1), pytest.approx(124, abs=1))
    after = apply_augmentation(
        NOISE, Augmentation(colour_jitter=augmentation.colour_jitter, jpeg_quality=30)
    )
    jittered = apply_augmentation(NOISE, augmentation)
    assert torch.equal(after, apply_augmentation(jittered, Augmentation(jpeg_quality=30)))


@pytest.mark.filterwarnings("ignore:The image decoding:DeprecationWarning")
@pytest.mark.parametrize("quality", [1, 30, 75, 95, 100])
def test_compression_has_the_bits_of_torchvisions_codec(quality):
    """Which kept results were measured with, and which will be removed."""
    if not hasattr(functional, "jpeg"):
        pytest.skip("this torchvision has no JPEG codec")
    draws = torch.Generator().manual_seed(quality)
    for side in (1, 37, 64):
        noise = torch.randint(0, 256, (2, 3, side, side + 3), generator=draws, dtype=torch.uint8)
        smooth = interpolate(noise[..., ::8, ::8].float(), (side, side + 3), mode="bilinear")
        for images in (noise, smooth.to(torch.uint8)):
            expected = torch.stack([functional.jpeg(image, quality) for image in images])
            assert torch.equal(compress(images, quality), expected)
            assert torch.equal(compress(images[1], quality), expected[1])


def test_lower_quality_is_farther_from_the_image():
    errors = [
        (apply_augmentation(NOISE, Augmentation(jpeg_quality=quality)).float() - NOISE)
        .square()
        .mean()
        for quality in (90, 50, 10)
    ]
    assert 0 < errors[0] < errors[1] < errors[2]


def test_views_have_the_look_that_their_control_records(make_source, make_encoder):
    noise_source = make_source(config=OpenMojiConfig(resolution=8, views=3, seed=5, look=STRONG))
    plain = make_source()
    views = [make_view(noise_source, index, 1) for index in range(7)]
    assert len({view.control.colour_jitter for view in views}) == 7
    for index, view in enumerate(views):
        assert view.control == view_control(noise_source, index, 1)
        before = make_view(plain, index, 1)  # augmentation leaves the draws of crops as they are
        assert before.control.crop_corner == view.control.crop_corner
        assert torch.equal(apply_augmentation(before.image, view.control), view.image)
    batch = EncodedViews(noise_source, make_encoder()).fetch(torch.arange(7), torch.ones(7).long())
    recorded = [tuple(row) for row in batch.control["colour_jitter"].tolist()]
    assert recorded == [tuple(view.control.colour_jitter) for view in views]


def test_grain_has_the_stated_level_and_share_and_replays():
    law = AugmentationConfig(grain_share=0.4, grain_largest=40.0)
    levels = [augmentation.grain for augmentation in looks(law)]
    grainy = [level for level in levels if level > 0]
    assert abs(len(grainy) / 2000 - 0.4) < 5 * (0.24 / 2000) ** 0.5
    # uniform in [0, 40]: mean 20, variance 40^2 / 12
    assert abs(sum(grainy) / len(grainy) - 20) < 5 * 40 / (12 * len(grainy)) ** 0.5
    grey = torch.full((3, 128, 128), 128, dtype=torch.uint8)
    result = apply_augmentation(grey, Augmentation(grain=10.0))
    assert torch.equal(result, apply_augmentation(grey, Augmentation(grain=10.0)))
    assert torch.equal(result[0], result[1]) and torch.equal(
        result[:, ::2, ::2], result[:, 1::2, 1::2]
    )
    # 4096 cells: the standard error of a deviation is 1 / sqrt(2 n) of it
    noise = result[0, ::2, ::2].double() - 128
    assert float(noise.std()) == pytest.approx(10, rel=5 / (2 * 4096) ** 0.5)
    ends = torch.stack([grey * 0, grey * 0 + 255])
    assert all(torch.equal(apply_augmentation(end, Augmentation(grain=30.0)), end) for end in ends)
    other = apply_augmentation(grey + 1, Augmentation(grain=10.0)).double() - 129
    agree = (other[0, ::2, ::2] * noise).mean() / 100
    assert abs(agree) < 5 / 4096**0.5  # another image has another pattern


def test_laws_without_grain_draw_what_they_drew_before_it():
    with_grain = looks(AugmentationConfig(colour_jitter=1.0, jpeg_share=0.5, grain_share=1.0), 1)[
        0
    ]
    without = looks(AugmentationConfig(colour_jitter=1.0, jpeg_share=0.5), 1)[0]
    assert without.colour_jitter == with_grain.colour_jitter
    assert without.jpeg_quality == with_grain.jpeg_quality and without.grain == 0


def test_the_level_of_grain_is_read_off_an_image():
    flat = torch.full((1, 3, 128, 128), 128, dtype=torch.uint8)
    assert grain_level(flat).item() == 0
    for level in (4.0, 16.0):
        images = torch.stack([add_grain(flat[0] + k, level) for k in range(8)])
        # the mean of 62 x 62 answers, which overlap: within 5 % over eight images
        assert float(grain_level(images).mean()) == pytest.approx(level, rel=0.05)


@pytest.mark.parametrize("dial", [0.5, 1.0])
@pytest.mark.parametrize("share", [0.3, 1.0])
def test_dials_leave_the_laws_of_jpeg_and_grain(dial: float, share: float) -> None:
    """Over 4000 classes: shares, and of those changed, means and 90th percentiles of strength.

    At dial 1 classes alone decide: a grid, exact to its step; at 0.5 random numbers add to it.
    Tolerances are 5 standard errors of independent draws.
    """
    law = AugmentationConfig(
        jpeg_share=share, jpeg_smallest=1, jpeg_largest=80, grain_share=share, grain_largest=40.0
    )
    correlations, draws = (
        CorrelationConfig(jpeg=dial, grain=dial),
        torch.Generator().manual_seed(2),
    )
    scores = class_scores([1] * 4000)
    result = [
        draw_augmentation(law, draws, ClassCopula(score=score, correlations=correlations))
        for score in scores
    ]
    jpeg = torch.tensor(
        [(sample.jpeg_quality - 0.5) / 80 for sample in result if sample.jpeg_quality < 100]
    )
    grain = torch.tensor([sample.grain / 40 for sample in result if sample.grain > 0])
    for strength in (jpeg, grain):
        count = len(strength)
        error = 5 * (share * (1 - share) / 4000) ** 0.5
        assert count / 4000 == pytest.approx(share, abs=error + 1e-3)
        assert float(strength.mean()) == pytest.approx(0.5, abs=5 / (12 * count) ** 0.5)
        nine_tenths = float(strength.quantile(0.9))
        assert nine_tenths == pytest.approx(0.9, abs=5 * (0.09 / count) ** 0.5)
    # both fall or rise with the class alone
    if dial == 1:
        for values in (
            [sample.jpeg_quality for sample in result],
            [sample.grain for sample in result],
        ):
            assert values == sorted(values)


def test_dials_of_zero_leave_every_draw() -> None:
    law = AugmentationConfig(jpeg_share=0.4, grain_share=0.4)
    tie = ClassCopula(score=1.3, correlations=CorrelationConfig(brightness=0.5))
    free, tied = torch.Generator().manual_seed(3), torch.Generator().manual_seed(3)
    for _ in range(50):
        before, after = draw_augmentation(law, free), draw_augmentation(law, tied, tie)
        assert (before.jpeg_quality, before.grain) == (after.jpeg_quality, after.grain)


def test_every_declared_augmentation_has_a_change_and_every_change_is_declared():
    assert {*PIXEL_CHANGES} == {*AUGMENTATION_FIELDS}


@pytest.mark.parametrize("name", AUGMENTATION_FIELDS)
def test_the_level_of_a_change_grows_with_the_change(name):
    change, value = PIXEL_CHANGES[name], CONTROL_FIELDS[name].probe_value
    draws = torch.Generator().manual_seed(3)
    clean = torch.randint(60, 200, (3, 3, 8, 8), generator=draws, dtype=torch.uint8)
    clean = clean.repeat_interleave(8, -1).repeat_interleave(8, -2)
    changed = torch.stack([change.apply(image, value) for image in clean])
    assert changed.shape == clean.shape and changed.dtype == torch.uint8
    assert (change.level(changed, value) > change.level(clean, value) + 0.1).all()
    if change.repeatable:
        assert torch.equal(change.apply(clean, value), changed)  # a batch as image by image


def test_shares_take_fields_with_a_declared_law_only():
    with pytest.raises(ConfigError, match=r"shares gives grain 0\.5; .* declared law: none"):
        AugmentationConfig(shares={"grain": 0.5})
    assert AugmentationConfig().amounts() == {
        "jpeg_quality": ("data.look.jpeg_share", 0),
        "colour_jitter": ("data.look.colour_jitter", 0),
        "grain": ("data.look.grain_share", 0),
    }
