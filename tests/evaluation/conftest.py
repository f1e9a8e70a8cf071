# SPDX-License-Identifier: Apache-2.0
"""Small sets of real images and feature networks, created once per session."""

import pytest
import torch
from random_inception import blobs

from pippin.control import Size
from pippin.data.config import OpenMojiConfig
from pippin.data.sources.openmoji import OpenMojiSource
from pippin.evaluation.features.efflite0 import EffLite0
from pippin.evaluation.features.extraction import Features, extract
from pippin.evaluation.features.inception import Inception
from pippin.types import Images


@pytest.fixture(scope="session")
def network() -> EffLite0:
    return EffLite0(64)


@pytest.fixture(scope="session")
def openmoji_images() -> Images:
    """160 untoned images of 64 pixels, spread over all classes, in random order."""
    source = OpenMojiSource(OpenMojiConfig(resolution=64), "train")
    step = len(source) // 160
    drawn = [source.image(step * i, None, Size(64, 64)) for i in range(160)]
    return torch.stack(drawn)[torch.randperm(160, generator=torch.Generator().manual_seed(0))]


@pytest.fixture(scope="session")
def inception_images() -> tuple[Images, Images]:
    """Generated and reference images: two kinds of smooth noise, 20 images each."""
    return blobs(20, 3, 3), blobs(20, 5, 5)


@pytest.fixture(scope="session")
def inception(inception_file) -> Inception:
    return Inception(inception_file)


@pytest.fixture(scope="session")
def inception_features(inception, inception_images) -> tuple[Features, Features]:
    generated, reference = inception_images
    return extract(inception, generated.split(10)), extract(inception, reference.split(10))
