# SPDX-License-Identifier: Apache-2.0
import math
from functools import cache

import pytest
import torch

from pippin.data.config import OriginalSizeConfig
from pippin.data.views.size import class_scores, original_size

COUNTS = [171, 388, 160, 131, 219, 85, 266, 224, 270, 405, 137]  # as in the table
SCORES = class_scores(COUNTS)


@cache
def log_shares(correlation: float) -> torch.Tensor:
    """Rows (class score, u) of images in the proportions of the classes."""
    law = OriginalSizeConfig(smallest=10, largest=100_000, class_correlation=correlation)
    draws = torch.Generator().manual_seed(0)
    rows = []
    for count, score in zip(COUNTS, SCORES, strict=True):
        for own in torch.randn(2 * count, generator=draws).tolist():
            side = original_size(law, score, own).height
            rows.append((score, math.log(side / 10) / math.log(10_000)))
    return torch.tensor(rows)


def distance_to_uniform(values: torch.Tensor) -> float:
    """Kolmogorov-Smirnov distance."""
    ordered = values.sort().values
    steps = torch.arange(1, len(values) + 1) / len(values)
    return float((ordered - steps).abs().max())


def test_class_scores_are_increasing_and_standardised() -> None:
    weights = torch.tensor(COUNTS) / sum(COUNTS)
    scores = torch.tensor(SCORES)
    assert (scores.diff() > 0).all()
    assert float((weights * scores).sum()) == pytest.approx(0, abs=1e-6)
    assert float((weights * scores**2).sum()) == pytest.approx(1, abs=1e-6)


def test_one_class_has_the_middle_score() -> None:
    assert class_scores([5]) == (0.0,)


# 4912 draws: the 1 % quantile of the Kolmogorov-Smirnov distance is 0.023. At r = 1 the law has
# one atom for each class; the largest holds 16.5 % of the images, so half of it is the floor.
@pytest.mark.parametrize(
    ("dial", "distance"), [(0.0, 0.023), (0.5, 0.025), (0.8, 0.03), (1.0, 0.1)]
)
def test_the_marginal_stays_uniform_in_log_size(dial: float, distance: float) -> None:
    assert distance_to_uniform(log_shares(dial)[:, 1]) < distance


@pytest.mark.parametrize("dial", [0.0, 0.5, 1.0])
def test_the_dial_is_the_correlation_with_the_class(dial: float) -> None:
    rows = log_shares(dial)
    normal = torch.distributions.Normal(0.0, 1.0).icdf(rows[:, 1].clamp(1e-4, 1 - 1e-4))
    result = torch.corrcoef(torch.stack([rows[:, 0], normal]))[0, 1]
    assert float(result) == pytest.approx(dial, abs=0.043)  # three standard errors at r = 0


def test_at_one_the_class_alone_decides() -> None:
    law = OriginalSizeConfig(class_correlation=1.0)
    assert original_size(law, SCORES[3], -2.0) == original_size(law, SCORES[3], 2.0)


def test_at_zero_the_class_decides_nothing() -> None:
    law = OriginalSizeConfig(class_correlation=0.0)
    assert original_size(law, SCORES[0], 0.7) == original_size(law, SCORES[-1], 0.7)


def test_sizes_stay_in_the_range_and_are_square() -> None:
    law = OriginalSizeConfig(smallest=24, largest=256)
    assert original_size(law, 0.0, -40.0) == (24, 24)
    assert original_size(law, 0.0, 40.0) == (256, 256)
    assert original_size(OriginalSizeConfig(smallest=64, largest=64), 1.0, 0.3) == (64, 64)
