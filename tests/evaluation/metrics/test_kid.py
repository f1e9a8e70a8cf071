# SPDX-License-Identifier: Apache-2.0
import pytest
import torch
from torch_fidelity.metric_kid import kid_features_to_metric

from pippin.evaluation.metrics import kid
from pippin.evaluation.metrics.kid import kernel_distance, subset_distances


def normal(n: int, seed: int, shift: float = 0.0) -> torch.Tensor:
    return torch.randn(n, 12, generator=torch.Generator().manual_seed(seed)) + shift


def test_full_estimate_agrees_with_torch_fidelity():
    x, y = normal(60, 0), normal(60, 1, shift=0.3)
    oracle = kid_features_to_metric(
        x.double(), y.double(), kid_subsets=1, kid_subset_size=60, verbose=False
    )["kernel_inception_distance_mean"]
    assert kernel_distance(x, y).value == pytest.approx(oracle, rel=1e-9)


def test_subsets_of_everything_are_the_full_estimate():
    x, y = normal(30, 0), normal(30, 1, shift=0.3)
    result = subset_distances(x, y, subsets=3, size=30, seed=0)
    assert torch.allclose(
        result, torch.full((3,), kernel_distance(x, y).value).double(), rtol=1e-6
    )


def test_subsets_agree_with_torch_fidelity_on_average():
    """The subsets differ, so means agree within three standard errors of both."""
    x, y = normal(200, 0), normal(150, 1, shift=0.3)
    estimates = subset_distances(x, y, subsets=100, size=40, seed=0)
    oracle = kid_features_to_metric(
        x.double(), y.double(), kid_subsets=100, kid_subset_size=40, verbose=False
    )
    error = oracle["kernel_inception_distance_std"] * (2 / 100) ** 0.5
    assert abs(float(estimates.mean()) - oracle["kernel_inception_distance_mean"]) < 3 * error
    spread = float(estimates.std(correction=0))
    assert spread == pytest.approx(oracle["kernel_inception_distance_std"], rel=0.25)


def test_subsets_depend_on_the_seed_only():
    x, y = normal(50, 0), normal(40, 1)
    first = subset_distances(x, y, subsets=5, size=10, seed=0)
    assert torch.equal(first, subset_distances(x, y, subsets=5, size=10, seed=0))
    assert not torch.equal(first, subset_distances(x, y, subsets=5, size=10, seed=1))
    assert torch.equal(first[:3], subset_distances(x, y, subsets=3, size=10, seed=0))


def test_unbiased_over_equal_distributions():
    """The mean of 100 estimates lies within four of its standard errors of zero."""
    values = torch.tensor(
        [kernel_distance(normal(20, 2 * i), normal(20, 2 * i + 1)).value for i in range(100)]
    )
    assert abs(values.mean()) < 4 * values.std() / 10
    assert (values < 0).any()


def test_left_out_values_are_recomputed_ones():
    x, y = normal(12, 0), normal(9, 1, shift=0.5)
    result = kernel_distance(x, y)
    for index in range(12):
        rest = torch.cat([x[:index], x[index + 1 :]])
        assert float(result.leave_one_out[index]) == pytest.approx(kernel_distance(rest, y).value)


def test_interval_covers_the_distance_of_the_distribution():
    """The reference is fixed: 30 draws of generated samples against the limit of many."""
    y = normal(50, 999)
    truth = kernel_distance(normal(3000, 1000, shift=0.3), y).value
    hits = 0
    for seed in range(30):
        low, high = kernel_distance(normal(60, seed, shift=0.3), y).interval()
        hits += low <= truth <= high
    assert hits >= 24  # 28 or 29 expected at 95 %


def test_blocks_do_not_change_the_estimate(monkeypatch):
    x, y = normal(31, 0), normal(17, 1, shift=0.2)
    whole = kernel_distance(x, y)
    monkeypatch.setattr(kid, "CELLS", 64)
    blocks = kernel_distance(x, y)
    assert blocks.value == pytest.approx(whole.value, rel=1e-10)
    assert torch.allclose(blocks.leave_one_out, whole.leave_one_out)


def test_too_few_images_are_refused():
    with pytest.raises(ValueError, match="at least 3"):
        kernel_distance(normal(2, 0), normal(5, 1))
    with pytest.raises(ValueError, match="subsets of 6"):
        subset_distances(normal(9, 0), normal(5, 1), subsets=1, size=6, seed=0)
