# SPDX-License-Identifier: Apache-2.0
"""The shipped studies at every scale: fair comparisons that ask what they say."""

import pytest

from pippin.config import ConfigError, difference
from pippin.studies.scales import SCALES
from pippin.studies.table import STUDIES, get_study

ALL = [(name, scale) for name, shipped in STUDIES.items() for scale in shipped.scales]


@pytest.mark.parametrize(("name", "scale"), ALL)
def test_every_scale_is_a_fair_comparison_declared_beforehand(name, scale):
    study = get_study(name, scale=scale)
    study.check()
    assert study.primary and study.companions
    assert name == "demo" or study.name == f"{name}-{scale}"
    assert name == "demo" or f"pippin study run {name} --scale {scale}" in study.reproduce


def test_a_verdict_rests_on_five_seeds_where_studies_are_run():
    for name, shipped in STUDIES.items():
        for scale in {"cpu", "gpu-hour"} & set(shipped.scales):
            assert len(get_study(name, scale=scale).seeds) >= 5


@pytest.mark.parametrize("scale", SCALES)
def test_the_corners_differ_in_path_and_gate_alone(scale):
    arms = get_study("control", scale=scale).arms()
    assert list(arms) == ["entangled", "gate-alone", "attention-alone", "disentangled"]
    far = difference(arms["entangled"], arms["disentangled"])
    assert {path.rsplit(".", 1)[0] for path in far} <= {
        "conditioning",
        "conditioning.control",
        "conditioning.control.low_gate",
    }


def test_the_dial_ties_size_to_class():
    for name, wanted in (("control", 1.0), ("control-independent", 0.0)):
        law = get_study(name, scale="cpu").base.data.size_law
        assert law.class_correlation == wanted


@pytest.mark.parametrize("name", ["guidance", "sampling-control"])
def test_arms_that_differ_in_sampling_train_alike(name):
    first, *others = get_study(name, scale="cpu").arms().values()
    for other in others:
        assert all(path.startswith("sampling.") for path in difference(first, other))


def test_a_scale_that_a_study_lacks_is_refused():
    with pytest.raises(ConfigError, match="study 'demo' has no scale 'paper'; it has: demo"):
        get_study("demo", scale="paper")
