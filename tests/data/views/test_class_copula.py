# SPDX-License-Identifier: Apache-2.0
import pytest
import torch

from pippin.data.config import CorrelationConfig
from pippin.data.views.size import INDEPENDENT, ClassCopula, class_scores


def test_a_dial_of_zero_returns_the_number_itself() -> None:
    tie = ClassCopula(score=1.7, correlations=CorrelationConfig(crop=0.5))
    for uniform in (0.0, 0.1234567, 1 - 2**-24):
        assert tie("flip", uniform) == INDEPENDENT("crop", uniform) == uniform
        assert 0 <= tie("crop", uniform) <= 1


def test_a_dial_of_one_returns_what_the_class_decides() -> None:
    tie = ClassCopula(score=-0.4, correlations=CorrelationConfig(jpeg=1.0))
    assert tie("jpeg", 0.01) == tie("jpeg", 0.99) == pytest.approx(0.344578, abs=1e-6)


@pytest.mark.parametrize("dial", [0.3, 0.8])
def test_numbers_stay_uniform_over_classes(dial: float) -> None:
    scores = class_scores([1] * 48)
    draws = torch.rand(48 * 100, generator=torch.Generator().manual_seed(0)).tolist()
    correlations = CorrelationConfig(brightness=dial)
    tied = [
        ClassCopula(score=scores[k % 48], correlations=correlations)("brightness", u)
        for k, u in enumerate(draws)
    ]
    ordered = torch.tensor(tied).sort().values
    steps = torch.arange(1, len(tied) + 1) / len(tied)
    assert float((ordered - steps).abs().max()) < 0.0235  # 1 % of Kolmogorov-Smirnov
