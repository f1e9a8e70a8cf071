# SPDX-License-Identifier: Apache-2.0
import json
import math

import pytest
import torch

from pippin.control import AUGMENTATION_FIELDS, Control
from pippin.data.config import OpenMojiConfig
from pippin.data.sources.openmoji import OpenMojiSource
from pippin.data.views.views import counterfactual
from pippin.evaluation.features.efflite0 import PerceptualDistance
from pippin.evaluation.metrics.drift import control_measures, observe
from pippin.evaluation.probes import AugmentationProbe, CropProbe, FlipProbe, SizeProbe

PROBES = [
    SizeProbe(large=96),
    FlipProbe(size=64),
    CropProbe(size=80),
    *(AugmentationProbe(name=name, size=96) for name in AUGMENTATION_FIELDS),
]


@pytest.fixture(scope="module")
def distance(network):
    return PerceptualDistance(network)


@pytest.fixture(scope="module")
def source():
    return OpenMojiSource(OpenMojiConfig(resolution=64), "held-out")


def renderer(source, indices):
    """Real images under the requested control, as a fully responsive model would generate them."""

    drawn = {}

    def render(values):
        control = Control.from_values(values)
        if control not in drawn:
            images = [counterfactual(source, i, control) for i in indices]
            drawn[control] = torch.stack(images)
        return drawn[control]

    return render


@pytest.fixture(scope="module")
def real(source):
    return renderer(source, range(0, 219, 18))


def unresponsive(real):
    """Renderer that ignores the control."""
    images = real(PROBES[0].controls[1].values())
    return lambda values: images


def by_name(measures):
    return {(measure.name, measure.subject): measure for measure in measures}


@pytest.fixture(scope="module")
def responsive(source, real, distance):
    """Measures of a responsive model, on other images than the real pairs."""
    generated = renderer(source, range(5, 219, 18))
    return by_name(control_measures(PROBES, generated, real, distance, seed=0))


def test_a_responsive_model_has_effects_and_no_excess_drift(responsive):
    assert responsive["effect flip", "arm"].value == 1
    assert responsive["drift flip", "arm"].value < 0.01
    assert responsive["effect original_size", "arm"].value > 0.5
    assert responsive["effect crop_corner", "arm"].value > 0.05
    assert responsive["effect jpeg_quality", "arm"].value > 1
    # White and black have no grain, so less than the requested 32 levels.
    assert 2 < responsive["effect grain", "arm"].value < 32
    # Dark pixels round to integers; white stays 255, so the mean follows the factor.
    assert responsive["effect colour_jitter", "arm"].value == pytest.approx(
        -math.log(0.6), abs=0.01
    )
    for name in (probe.name for probe in PROBES):
        excess = responsive[f"excess drift {name}", "arm"]
        assert excess.low <= 0 <= excess.high
        drifts = responsive[f"drift {name}", "arm"], responsive[f"drift {name}", "real"]
        assert excess.value == pytest.approx(drifts[0].value - drifts[1].value)


def test_aligning_takes_away_most_of_the_difference(real, distance):
    for probe in PROBES:
        first, second = (real(control.values()) for control in probe.controls)
        raw = distance(first, second).mean()
        assert observe(probe, real, distance).drift.mean() < 0.5 * raw, probe.name


def test_an_unresponsive_model_has_neither_effect_nor_drift(real, distance):
    result = by_name(control_measures(PROBES, unresponsive(real), real, distance, seed=0))
    assert result["effect original_size", "arm"].value == 0
    assert result["drift original_size", "arm"].value == 0
    assert result["effect flip", "arm"].value == 0
    assert result["effect crop_corner", "arm"].value == 0
    assert result["effect jpeg_quality", "arm"].value == 0
    assert result["effect grain", "arm"].value == 0
    assert result["effect colour_jitter", "arm"].value == 0
    assert result["excess drift original_size", "arm"].value < 0


def test_a_model_whose_content_changes_with_the_control_drifts(real, distance):
    """Entangled: another size or flip shows another image."""

    def swap(values, images):
        changed = values["flip"][0] == 1 or values["original_size"][0] == 32
        return images.roll(1, 0) if changed else images

    entangled = lambda values: swap(values, real(values))  # noqa: E731
    result = by_name(control_measures(PROBES[:2], entangled, real, distance, seed=0))
    for name in ("original_size", "flip"):
        excess = result[f"excess drift {name}", "arm"]
        assert excess.low > 0.2, name


def test_measures_carry_their_protocol(responsive, distance):
    for measure in responsive.values():
        json.dumps(measure.to_dict(), allow_nan=False)
        assert measure.protocol["distance_fingerprint"] == distance.fingerprint
    flip = responsive["effect flip", "arm"]
    assert flip.protocol["asymmetric_above"] == 0.15
    assert flip.protocol["second"]["flip"] == [1.0]
    asymmetric = responsive["asymmetric images flip", "arm"]
    assert flip.n == round(asymmetric.value * asymmetric.n)


def test_without_asymmetric_images_the_mirror_test_is_left_out(distance):
    spot = torch.full((3, 3, 64, 64), 255, dtype=torch.uint8)
    spot[:, :, 20:44, 20:44] = 0
    same = lambda values: spot  # noqa: E731
    result = by_name(control_measures([FlipProbe()], same, same, distance, seed=0))
    assert ("effect flip", "arm") not in result
    assert result["asymmetric images flip", "arm"].value == 0


def test_crop_moves_a_spot_by_a_quarter():
    """A spot at the source's centre, cut by hand: 120 pixels, crops of 96."""
    probe = CropProbe(size=120)
    canvas = torch.full((1, 3, 120, 120), 255, dtype=torch.uint8)
    canvas[:, :, 56:64, 56:64] = 0
    images = []
    for control in probe.controls:
        (top, left), (height, width) = control.crop_corner, control.crop_size
        images.append(canvas[:, :, top : top + height, left : left + width])
    first, second = probe.align(*images)
    assert torch.equal(first, second)
    (effect,) = probe.effects(*images, distance=lambda a, b: torch.zeros(1))
    assert float(effect.values) == pytest.approx(0.25)


def test_wrong_input_is_named(distance, real):
    with pytest.raises(ValueError, match="cannot show an original size of 64"):
        observe(SizeProbe(small=64), real, distance)
    with pytest.raises(ValueError, match="multiple of 5"):
        CropProbe(size=256)
    sizes = iter([2, 3])
    uneven = lambda values: torch.zeros(next(sizes), 3, 64, 64, dtype=torch.uint8)  # noqa: E731
    with pytest.raises(ValueError, match="must have the same shape"):
        observe(FlipProbe(), uneven, distance)


@pytest.mark.parametrize(("generated", "real"), [(1, 1), (1, 3), (3, 1)])
def test_one_pair_has_no_interval(source, distance, generated, real):
    sides = [renderer(source, range(count)) for count in (generated, real)]
    measures = by_name(control_measures([FlipProbe(size=64)], *sides, distance, seed=0))
    excess = measures["excess drift flip", "arm"]
    assert (excess.low, excess.high, excess.interval_over) == (None, None, "none")
