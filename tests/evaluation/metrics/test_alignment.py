# SPDX-License-Identifier: Apache-2.0
"""Ridge maps and ranks against brute force and closed forms."""

import pytest
import torch

from pippin.evaluation.metrics.alignment import (
    STRENGTHS,
    caption_ranks,
    fit_ridge,
    retrieval_measures,
    unique_captions,
)
from pippin.evaluation.proportion import wilson_interval


def data(count=40, image=7, text=3, noise=0.3):
    draws = torch.Generator().manual_seed(0)
    x = torch.randn(count, image, generator=draws, dtype=torch.float64) + 2
    y = x @ torch.randn(image, text, generator=draws, dtype=torch.float64)
    return x, y + noise * torch.randn(count, text, generator=draws, dtype=torch.float64) - 1


def solve(x, y, penalty):
    """Ridge with means left free, by its normal equations."""
    centre, target = x.mean(0), y.mean(0)
    a = (x - centre).T @ (x - centre) + penalty * torch.eye(x.shape[1], dtype=x.dtype)
    weight = torch.linalg.solve(a, (x - centre).T @ (y - target))
    return lambda new: (new - centre) @ weight + target


def test_a_map_solves_the_normal_equations():
    x, y = data()
    ridge = fit_ridge(x, y)
    unit = ((x - x.mean(0)) ** 2).sum() / x.shape[1]
    expected = solve(x, y, ridge.strength * unit)
    torch.testing.assert_close(ridge(x[:5]), expected(x[:5]), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("noise", [0.01, 3.0])
def test_its_penalty_has_the_smallest_leave_one_out_error(noise):
    x, y = data(noise=noise)
    unit = ((x - x.mean(0)) ** 2).sum() / x.shape[1]
    errors = {}
    for strength in STRENGTHS:
        total = 0.0
        for index in range(len(x)):
            rest = torch.arange(len(x)) != index
            # the penalty is that of the full set; the means are those of the remaining images
            predicted = solve(x[rest], y[rest], strength * unit)(x[index])
            total += float((predicted - y[index]).square().sum())
        errors[strength] = total
    assert fit_ridge(x, y).strength == min(errors, key=errors.get)


def test_more_features_than_images():
    x, y = data(count=6, image=30)
    ridge = fit_ridge(x, y)
    assert ridge(x).isfinite().all()
    for bad in ((x[:2], y[:2]), (x, y[:3])):
        with pytest.raises(ValueError, match="3 pairs or more"):
            fit_ridge(*bad)


def test_ranks_count_nearer_captions_and_ties():
    texts = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0], [2.0, 0.0]])
    predicted = torch.tensor([[1.0, 0.1], [0.1, 3.0]], dtype=torch.float64)
    # captions 0 and 3 have the same direction: each ties with the other
    assert caption_ranks(predicted, texts, torch.tensor([0, 1])).tolist() == [1, 0]
    assert caption_ranks(predicted, texts, torch.tensor([1, 0])).tolist() == [3, 3]


def test_chance_is_k_over_captions():
    draws = torch.Generator().manual_seed(1)
    texts, predicted = torch.randn(50, 16, generator=draws), torch.randn(4000, 16, generator=draws)
    own = torch.arange(4000) % 50
    ranks = caption_ranks(predicted.double(), texts, own)
    for measure, k in zip(
        retrieval_measures(ranks, 50, subject="arm", protocol={}), (1, 5, 10), strict=True
    ):
        assert measure.name == f"caption R@{k}"
        assert measure.low < k / 50 < measure.high
    few = retrieval_measures(ranks[:3] % 4, 5, subject="real", shuffled=True, protocol={})
    assert [measure.name for measure in few] == ["caption R@1 shuffled"]


def test_wilson_intervals_have_their_nominal_coverage():
    share, count = 0.07, 60
    draws = torch.Generator().manual_seed(2)
    hits = (torch.rand(20_000, count, generator=draws) < share).double().mean(dim=1)
    covered = sum(
        low <= share <= high for low, high in (wilson_interval(float(h), count) for h in hits)
    )
    assert 0.93 < covered / len(hits) < 0.97  # of a discrete share
    assert wilson_interval(0.0, 10)[0] == 0.0 and wilson_interval(1.0, 10)[1] == pytest.approx(1.0)


def test_places_of_repeated_captions():
    first, own = unique_captions(["a", "b", "a", "c"])
    assert first == [0, 1, 3] and own.tolist() == [0, 1, 0, 2]
