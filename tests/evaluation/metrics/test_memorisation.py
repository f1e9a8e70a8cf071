# SPDX-License-Identifier: Apache-2.0
"""Nearest training images of samples."""

from dataclasses import replace

import pytest
import torch

from pippin.evaluation.features.extraction import Features, extract
from pippin.evaluation.metrics.memorisation import memorisation_measures, nearest_distances


def features(values) -> Features:
    return Features(
        values=torch.as_tensor(values, dtype=torch.float32),
        extractor="toy",
        fingerprint="f",
        input_size=8,
        image_hash="h",
    )


def normal(count, seed):
    return torch.randn(count, 16, generator=torch.Generator().manual_seed(seed))


def by_name(measures):
    return {(measure.name, measure.subject): measure.value for measure in measures}


def test_the_distance_is_that_to_the_nearest_one():
    result = nearest_distances(
        features([[0.0, 0.0], [5.0, 1.0]]), features([[3.0, 4.0], [5.0, 0]])
    )
    assert result.tolist() == [5.0, 1.0]


def test_a_copy_has_distance_zero_exactly():
    """Large features far from the origin: differences are taken before squares."""
    values = 1000 + normal(20, 0)
    assert nearest_distances(features(values[:5]), features(values)).max() == 0


def test_fresh_draws_are_no_copies_and_copies_are():
    training, held_out = features(normal(2000, 1)), features(normal(1000, 2))
    fresh = by_name(memorisation_measures(features(normal(1000, 3)), held_out, training, seed=0))
    assert ("near copies", "real") not in fresh  # 0.05 by its definition
    error = (2 * 0.05 * 0.95 / 1000) ** 0.5  # of the difference of two shares of 1000
    assert fresh["near copies", "arm"] == pytest.approx(0.05, abs=5 * error)
    half = torch.cat([training.values[:500] + 1e-3, normal(500, 4)])
    copied = by_name(memorisation_measures(features(half), held_out, training, seed=0))
    assert copied["near copies", "arm"] > 0.5
    distance = "nearest training distance"
    assert copied[distance, "arm"] < 0.6 * fresh[distance, "arm"]


def test_the_interval_covers_the_threshold_too():
    """About 5 of 100 held-out images set the threshold: it is as uncertain as they are."""
    training, held_out = features(normal(500, 1)), features(normal(100, 2))
    generated = features(normal(5000, 3))
    (near,) = [
        measure
        for measure in memorisation_measures(generated, held_out, training, seed=0)
        if measure.name == "near copies"
    ]
    of_samples = 2 * 1.96 * (near.value * (1 - near.value) / 5000) ** 0.5
    assert near.high - near.low > 3 * of_samples
    assert near.low < 0.05 < near.high


def test_few_held_out_images_give_no_near_copies():
    result = memorisation_measures(
        features(normal(50, 3)), features(normal(99, 2)), features(normal(500, 1)), seed=0
    )
    assert {measure.name for measure in result} == {"nearest training distance"}


def test_features_of_two_networks_are_refused():
    with pytest.raises(ValueError, match="different extractors"):
        nearest_distances(features([[0.0]]), replace(features([[0.0]]), input_size=9))


def test_a_training_image_is_its_own_nearest_in_real_features(network, openmoji_images):
    training = extract(network, [openmoji_images[:80]])
    again = extract(network, [openmoji_images[:3]])
    assert nearest_distances(again, training).max() < 1e-3
    assert nearest_distances(extract(network, [openmoji_images[80:]]), training).min() > 0.1
