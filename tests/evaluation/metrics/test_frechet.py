# SPDX-License-Identifier: Apache-2.0
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric

from pippin.evaluation.metrics.frechet import GaussianStatistics, frechet_distance


def gaussian(n: int, dim: int, seed: int, scale: float = 1.0, shift: float = 0.0) -> torch.Tensor:
    draws = torch.Generator().manual_seed(seed)
    mix = torch.randn(dim, dim, dtype=torch.float64, generator=draws) / dim**0.5
    return scale * torch.randn(n, dim, dtype=torch.float64, generator=draws) @ mix + shift


def exact(mean: torch.Tensor, covariance: torch.Tensor) -> GaussianStatistics:
    return GaussianStatistics(count=11, mean=mean, scatter=covariance * 10)


def test_commuting_gaussians_have_the_closed_form():
    """Diagonal covariances: d^2 = |m1 - m2|^2 + sum (s1 - s2)^2."""
    s1, s2 = torch.tensor([1.0, 2.0, 0.0]).double(), torch.tensor([3.0, 0.5, 0.25]).double()
    m1, m2 = torch.zeros(3).double(), torch.tensor([1.0, -2.0, 0.5]).double()
    result = frechet_distance(exact(m1, s1.square().diag()), exact(m2, s2.square().diag()))
    expected = (m1 - m2).square().sum() + (s1 - s2).square().sum()
    assert result == pytest.approx(float(expected), rel=1e-12)


@pytest.mark.parametrize("counts", [(300, 200), (20, 300), (20, 25)])
def test_agrees_with_torch_fidelity(counts):
    """Also with fewer samples than the 40 dimensions, where covariances are singular."""
    x, y = gaussian(counts[0], 40, 0), gaussian(counts[1], 40, 1, scale=1.3, shift=0.2)
    oracle = fid_statistics_to_metric(
        fid_features_to_statistics(x), fid_features_to_statistics(y), verbose=False
    )["frechet_inception_distance"]
    result = frechet_distance(
        GaussianStatistics.from_features(x), GaussianStatistics.from_features(y)
    )
    assert result == pytest.approx(oracle, rel=1e-6)


@pytest.mark.parametrize("count", [30, 500])
def test_distance_to_itself_is_zero_and_order_does_not_matter(count):
    x, y = (
        GaussianStatistics.from_features(gaussian(count, 64, 2)),
        GaussianStatistics.from_features(gaussian(90, 64, 3)),
    )
    assert abs(frechet_distance(x, x)) < 1e-9 * float(x.covariance.trace())
    assert frechet_distance(x, y) == pytest.approx(frechet_distance(y, x), rel=1e-9)


@settings(max_examples=20, deadline=None)
@given(cuts=st.lists(st.integers(0, 50), max_size=4), shift=st.floats(-1e3, 1e3))
def test_shards_merge_to_the_single_pass(cuts, shift):
    values = gaussian(50, 6, 4, shift=shift)
    edges = [0, *sorted(cuts), 50]
    shards = [GaussianStatistics.from_features(values[a:b]) for a, b in pairwise(edges)]
    merged = GaussianStatistics.empty(6)
    for shard in shards:
        merged = merged.merge(shard)
    whole = GaussianStatistics.from_features(values)
    assert merged.count == 50
    assert torch.allclose(merged.mean, whole.mean, rtol=1e-12)
    assert torch.allclose(merged.covariance, torch.cov(values.T), rtol=1e-8, atol=1e-9)


def test_features_that_never_vary_add_their_gap_only():
    first, second = gaussian(24, 60, 1), gaussian(30, 60, 2)
    wide = [torch.zeros(len(values), 1280, dtype=torch.float64) for values in (first, second)]
    for padded, values in zip(wide, (first, second), strict=True):
        padded[:, ::22][:, :58] = values[:, :58]
    wide[1][:, 1279] = 3.0
    statistics = GaussianStatistics.from_features
    expected = frechet_distance(statistics(first[:, :58]), statistics(second[:, :58])) + 9
    assert frechet_distance(statistics(wide[0]), statistics(wide[1])) == pytest.approx(
        expected, rel=1e-9
    )
    constant = statistics(torch.ones(5, 4, dtype=torch.float64))
    assert frechet_distance(constant, constant) == 0


def test_wrong_input_is_named():
    single = GaussianStatistics.from_features(gaussian(1, 4, 0))
    with pytest.raises(ValueError, match="two samples"):
        frechet_distance(single, single)
    with pytest.raises(ValueError, match="feature dimensions differ: 4 and 5"):
        frechet_distance(single, GaussianStatistics.from_features(gaussian(9, 5, 0)))
