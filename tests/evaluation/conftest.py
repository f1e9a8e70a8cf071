# SPDX-License-Identifier: Apache-2.0
"""Small sets of real images and feature networks, created once per session."""

import pytest
import torch

from pippin.control import Size
from pippin.data.config import OpenMojiConfig
from pippin.data.sources.openmoji import OpenMojiSource
from pippin.evaluation.features.efflite0 import EffLite0
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
def inception(inception_file) -> Inception:
    return Inception(inception_file)
