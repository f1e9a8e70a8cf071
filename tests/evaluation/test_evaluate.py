# SPDX-License-Identifier: Apache-2.0
import json
from dataclasses import replace

import pytest
import torch

from pippin.evaluation import distances as module
from pippin.evaluation.config import EvaluationConfig
from pippin.evaluation.distances import compare, evaluate
from pippin.evaluation.features import extraction as features
from pippin.evaluation.features.extraction import Features, extract
from pippin.evaluation.measure import Measure
from pippin.evaluation.metrics.appearance import blur_to
from pippin.evaluation.metrics.kid import kernel_distance
from pippin.evaluation.metrics.prdc import prdc

CONFIG = EvaluationConfig(input_size=64, kid_subsets=10, kid_subset_size=40, neighbours=3)


@pytest.fixture(scope="module")
def reference(network, openmoji_images) -> Features:
    return extract(network, openmoji_images[:80].split(40))


@pytest.fixture(scope="module")
def floor(network, openmoji_images, reference) -> list[Measure]:
    return evaluate(openmoji_images[80:].split(32), reference, CONFIG, network, subject="real")


def by_name(measures: list[Measure]) -> dict[str, Measure]:
    return {measure.name: measure for measure in measures}


def test_kid_and_coverage_lead_a_small_evaluation(floor):
    names = [measure.name for measure in floor]
    assert names[:2] == ["KID-efflite0", "coverage"] and names[-1] == "FD-efflite0"
    assert sorted(names[2:-1]) == ["KID-efflite0 subsets", "density", "precision", "recall"]


def test_a_set_against_itself_is_perfect_and_frechet_leads_a_large_one(reference, monkeypatch):
    monkeypatch.setattr(module, "MIN_FRECHET_IMAGES", 80)
    measures = compare(reference, reference, CONFIG)
    assert measures[0].name == "FD-efflite0"
    named = by_name(measures)
    assert abs(named["FD-efflite0"].value) < 1e-6
    assert named["coverage"].value == named["precision"].value == named["recall"].value == 1


def test_every_measure_carries_its_protocol(floor, network, reference):
    for measure in floor:
        own = measure.protocol
        assert measure.subject == "real" and measure.n == 80 == own["samples"]
        assert own["reference_samples"] == 80 and own["input_size"] == 64
        assert own["reference_hash"] == reference.image_hash
        assert own["features_fingerprint"] == network.fingerprint
        json.dumps(measure.to_dict(), allow_nan=False)
    named = by_name(floor)
    assert named["KID-efflite0 subsets"].protocol["kid_subset_size"] == 40
    assert named["coverage"].protocol["neighbours"] == 3


def test_the_floor_is_near_zero_and_intervals_hold_the_value(floor):
    kid = by_name(floor)["KID-efflite0"]
    assert kid.low is not None and kid.high is not None
    assert kid.low < 0 < kid.high
    for measure in floor:
        if measure.low is not None and measure.high is not None:
            assert measure.low <= measure.value <= measure.high
            assert measure.interval_over != "none"


def test_worse_images_have_a_larger_kernel_distance(network, openmoji_images, reference):
    """Real < blurred < noisy, real < collapsed to four images; a collapsed set covers little."""
    real = openmoji_images[80:]
    draws = torch.Generator().manual_seed(0)
    noise = 40 * torch.randn(real.shape, generator=draws)
    made = {
        "real": real,
        "blurred": blur_to(real, 16),
        "noisy": (real + noise).clamp(0, 255).round().to(torch.uint8),
        "collapsed": real[:4].repeat(20, 1, 1, 1),
    }
    features = {name: extract(network, [images]).values for name, images in made.items()}
    kid = {name: kernel_distance(x, reference.values) for name, x in features.items()}
    assert kid["real"].value < kid["blurred"].interval()[0]
    assert kid["blurred"].value < kid["noisy"].interval()[0]
    assert kid["real"].value < kid["collapsed"].value
    coverage = {name: prdc(x, reference.values, 3).coverage.value for name, x in features.items()}
    assert coverage["collapsed"] < 0.5 * coverage["real"]


def test_features_of_two_extractors_are_not_compared(reference):
    other = Features(
        values=reference.values,
        extractor="efflite0",
        fingerprint="0" * 16,
        input_size=64,
        image_hash=reference.image_hash,
    )
    with pytest.raises(ValueError, match="different extractors"):
        compare(other, reference, CONFIG)


def test_too_few_images_are_refused(network, openmoji_images, reference):
    with pytest.raises(ValueError, match="at least 5 generated"):
        evaluate([openmoji_images[:4]], reference, CONFIG, network)


def test_what_depends_on_the_reference_alone_is_computed_once_and_changes_no_bit(
    reference, network, openmoji_images, monkeypatch
):
    counts = []

    def counted(name):
        inner = getattr(features, name)

        def call(*given):
            counts.append(name)
            return inner(*given)

        monkeypatch.setattr(features, name, call)

    counted("unbiased_within")
    counted("squared_radii")
    rows = torch.arange(len(reference))
    fresh = reference.subset(rows, reference.image_hash)
    sets = [extract(network, openmoji_images[start : start + 40].split(40)) for start in (0, 80)]
    for generated in sets:
        cached = by_name(compare(generated, fresh, CONFIG))
        direct_kid = kernel_distance(generated.values, fresh.values)
        direct_prdc = prdc(generated.values, fresh.values, CONFIG.neighbours)
        assert cached["KID-efflite0"].value == direct_kid.value
        assert (
            cached["KID-efflite0"].low,
            cached["KID-efflite0"].high,
        ) == direct_kid.interval()
        assert cached["coverage"].value == direct_prdc.coverage.value
        assert cached["density"].value == direct_prdc.density.value
    assert counts == ["unbiased_within", "squared_radii"]


@pytest.mark.parametrize(
    ("settings", "interval"),
    [
        ({}, True),
        ({"kid_subsets": 1}, False),
        ({"kid_subset_size": 1000}, False),  # each subset is the whole of both sets
    ],
)
def test_kid_over_subsets_has_an_interval_where_they_differ(reference, settings, interval):
    measure = by_name(compare(reference, reference, replace(CONFIG, **settings)))[
        "KID-efflite0 subsets"
    ]
    assert (measure.low is not None) == (measure.high is not None) == interval
    assert measure.interval_over == ("subsets" if interval else "none")
