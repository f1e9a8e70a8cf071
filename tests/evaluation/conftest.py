# SPDX-License-Identifier: Apache-2.0
"""Small sets of real pictures and one feature network, made once."""

import pytest
import torch

from pippin.control import Size
from pippin.data.config import OpenMojiConfig
from pippin.data.openmoji import OpenMojiSource
from pippin.evaluation.efflite0 import EffLite0
from pippin.types import Images


@pytest.fixture(scope="session")
def network() -> EffLite0:
    return EffLite0(64)


@pytest.fixture(scope="session")
def pictures() -> Images:
    """160 untoned drawings of 64 pixels, spread over all classes, in random order."""
    source = OpenMojiSource(OpenMojiConfig(resolution=64), "train")
    step = len(source) // 160
    drawn = [source.image(step * i, None, Size(64, 64)) for i in range(160)]
    return torch.stack(drawn)[torch.randperm(160, generator=torch.Generator().manual_seed(0))]
