# SPDX-License-Identifier: Apache-2.0
"""Sharpness of a stream of images."""

import pytest
import torch

from pippin.evaluation.image_meter import ImageMeter
from pippin.evaluation.metrics.appearance import blur_to, log_sharpness
from pippin.evaluation.metrics.declared.sharpness import SHARPNESS


def noise(count=6, side=32):
    draws = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, 3, side, side), generator=draws, dtype=torch.uint8)


def measured(*batches):
    meter = ImageMeter([SHARPNESS])
    passed = list(meter.watch(iter(batches)))
    (measure,) = meter.measures(seed=0)
    return passed, measure


def test_it_is_the_mean_over_all_images_and_changes_none():
    images = noise()
    passed, result = measured(images[:4], images[4:])
    assert torch.equal(torch.cat(passed), images)
    assert result.value == pytest.approx(float(log_sharpness(images, 16).mean()))
    assert (result.n, result.unit, result.protocol["sharpness_side"]) == (6, "nat", 16)
    assert result.low < result.value < result.high


def test_white_noise_has_its_known_share():
    """The share of frequencies beyond half of Nyquist's: 1 - (17 / 32)^2 of 32 x 32."""
    _, result = measured(noise(count=200))
    expected = torch.tensor(1 - (17 / 32) ** 2).log()
    assert result.value == pytest.approx(float(expected), abs=0.02)


def test_blur_lowers_it():
    assert measured(blur_to(noise(), 8))[1].value < measured(noise())[1].value - 1
