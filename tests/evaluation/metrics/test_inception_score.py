# SPDX-License-Identifier: Apache-2.0
import pytest
import torch
from torch_fidelity.metric_isc import isc_features_to_metric

from pippin.evaluation.metrics.frechet import inception_scores, shuffled_order


def logits(count, classes, seed=0, scale=3.0):
    return scale * torch.randn(count, classes, generator=torch.Generator().manual_seed(seed))


def test_certain_and_even_predictions_score_the_number_of_classes():
    certain = 1e3 * torch.eye(7).repeat(4, 1)
    assert float(inception_scores(certain, 1)) == pytest.approx(7, rel=1e-12)


def test_equal_images_score_one():
    assert float(inception_scores(logits(1, 9).repeat(5, 1), 1)) == pytest.approx(1, rel=1e-12)


@pytest.mark.parametrize("splits", [1, 3, 10])
def test_agrees_with_torch_fidelity_in_its_order(splits):
    """Also where parts differ by an image in size."""
    values = logits(47, 20)
    oracle = isc_features_to_metric(values, splits=splits, shuffle=True, rng_seed=2020)
    result = inception_scores(values[shuffled_order(47)], splits)
    assert float(result.mean()) == pytest.approx(oracle["inception_score_mean"], rel=1e-9)
    spread = float(result.std(correction=0))
    assert spread == pytest.approx(oracle["inception_score_std"], rel=1e-6, abs=1e-12)


def test_fewer_images_than_parts_are_refused():
    with pytest.raises(ValueError, match="over 10 splits needs at least 10 images; got 9"):
        inception_scores(logits(9, 3))
