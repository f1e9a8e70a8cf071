# SPDX-License-Identifier: Apache-2.0
import pytest
import torch

from pippin.evaluation.features.efflite0 import PerceptualDistance
from pippin.evaluation.metrics.appearance import blur_to


@pytest.fixture(scope="module")
def distance(network):
    return PerceptualDistance(network, batch_size=5)


def test_equal_images_have_no_distance_and_order_does_not_matter(distance, openmoji_images):
    first, second = openmoji_images[:12], openmoji_images[12:24]
    assert (distance(first, first) == 0).all()
    assert torch.allclose(distance(first, second), distance(second, first), atol=1e-6)
    assert distance(first, second).shape == (12,)


def test_distance_grows_with_the_change(distance, openmoji_images):
    images = openmoji_images[:16]
    slight, strong = distance(images, blur_to(images, 48)), distance(images, blur_to(images, 16))
    other = distance(images, images.roll(1, 0))
    assert (slight < strong).all()
    assert strong.mean() < other.mean() < 4


def test_every_stage_counts_equally(network, distance, openmoji_images):
    """The definition, written out once more with loops."""
    first, second = openmoji_images[0:1], openmoji_images[1:2]
    expected = []
    for a, b in zip(network.stages(first), network.stages(second), strict=True):
        a, b = a[0] / a[0].norm(dim=0), b[0] / b[0].norm(dim=0)
        expected.append(((a - b) ** 2).sum(0).mean())
    assert distance(first, second)[0] == pytest.approx(float(sum(expected) / 5), rel=1e-5)
