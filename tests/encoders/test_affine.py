# SPDX-License-Identifier: Apache-2.0
"""Affine normalisation of weights files."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pippin.encoders.normalisation import Affine

PUBLISHED = {
    "scaling_factor": 0.5,
    "shift_factor": 0.25,
    "latents_mean": None,
    "latents_std": None,
}


def test_published_scalar_convention() -> None:
    affine = Affine.from_weights({}, PUBLISHED, 2)
    raw = torch.tensor([1.0, -3.0]).view(1, 2, 1, 1)
    expected = (raw - 0.25) * 0.5  # diffusers: (latents - shift_factor) * scaling_factor
    torch.testing.assert_close((raw - affine.shift) / affine.scale, expected)


def test_published_channel_convention() -> None:
    config = {"scaling_factor": 0.5, "latents_mean": [1.0, 2.0], "latents_std": [4.0, 8.0]}
    affine = Affine.from_weights({}, config, 2)
    assert affine.shift.flatten().tolist() == [1.0, 2.0]
    # diffusers: raw = latents * latents_std / scaling_factor + latents_mean
    assert affine.scale.flatten().tolist() == [8.0, 16.0]


def test_metadata_comes_before_the_configuration() -> None:
    own = Affine.from_statistics(torch.tensor([3.0]), torch.tensor([5.0]))
    result = Affine.from_weights(own.metadata(), PUBLISHED, 1)
    assert result.shift.item() == 3.0
    assert result.scale.item() == 5.0


numbers = st.floats(-1e3, 1e3, width=32)
positive = st.floats(2**-10, 1e3, width=32)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(numbers, positive), min_size=1, max_size=4))
def test_metadata_round_trip_is_exact(rows: list[tuple[float, float]]) -> None:
    mean, std = torch.tensor(rows).unbind(1)
    affine = Affine.from_statistics(mean, std)
    result = Affine.from_weights(affine.metadata(), {}, len(rows))
    assert torch.equal(result.shift, affine.shift)
    assert torch.equal(result.scale, affine.scale)


def test_weights_without_statistics_are_refused() -> None:
    with pytest.raises(ValueError, match="no latent statistics"):
        Affine.from_weights({}, {"scaling_factor": None}, 4)


def test_statistics_of_another_channel_count_are_refused() -> None:
    own = Affine.from_statistics(torch.zeros(3), torch.ones(3))
    with pytest.raises(ValueError, match="do not fit 4 latent channels"):
        Affine.from_weights(own.metadata(), {}, 4)


@pytest.mark.parametrize("std", [0.0, -1.0, float("nan")])
def test_impossible_statistics_are_refused(std: float) -> None:
    with pytest.raises(ValueError, match="positive"):
        Affine.from_statistics(torch.zeros(1), torch.tensor([std]))


@pytest.mark.parametrize(
    "mean", [{"a": 1.0, "b": 2.0}, [[1.0], [2.0]], ["a", "b"], 3, "12", {"0": 1.0, "1": 2.0}]
)
def test_statistics_that_are_no_numbers_are_refused(mean) -> None:
    config = {"scaling_factor": 0.5, "latents_mean": mean, "latents_std": [1.0, 2.0]}
    with pytest.raises(ValueError, match="latent statistics are damaged"):
        Affine.from_weights({}, config, 2)
