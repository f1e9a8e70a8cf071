# SPDX-License-Identifier: Apache-2.0
from pippin.data.config import OpenMojiConfig
from pippin.data.sources.factory import build_source
from pippin.data.sources.openmoji import OpenMojiSource


def test_a_configuration_opens_as_its_source() -> None:
    config = OpenMojiConfig(tones="base-only", seed=4)
    source = build_source(config, "held-out")
    assert isinstance(source, OpenMojiSource)
    assert source.config == config
    assert source.split == "held-out"
