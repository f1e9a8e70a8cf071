# SPDX-License-Identifier: Apache-2.0
"""Statistics of raw latents: closed forms and errors."""

import pytest
import torch

from pippin.config import ConfigError
from pippin.encoders.normalisation import Affine
from pippin.encoders.statistics import (
    LatentStatistics,
    LatentSums,
    latent_statistics,
    statistics_from_affine,
)
from pippin.types import Moments


def batch(count: int, side: int, seed: int, **changes: float) -> Moments:
    """Channel c has means of deviation c + 1 around 10 c, and a posterior deviation of 0.5."""
    draws = torch.Generator().manual_seed(seed)
    channels = torch.arange(3.0).view(1, 3, 1, 1)
    noise = torch.randn(count, 3, side, side, generator=draws)
    mean = changes.get("shift", 10.0) * channels + (channels + 1) * noise
    return Moments(mean=mean, std=torch.full_like(mean, changes.get("std", 0.5)))


def test_they_are_those_of_posterior_samples() -> None:
    batches = [batch(4, 16, 0), batch(3, 8, 1)]
    result = latent_statistics(batches, "a")
    draws = torch.Generator().manual_seed(2)
    raw = torch.cat(
        [
            (m.mean + m.std * torch.randn(m.mean.shape, generator=draws))
            .transpose(0, 1)
            .flatten(1)
            for m in batches
        ],
        dim=1,
    )
    assert result.mean == pytest.approx(raw.mean(1).tolist(), abs=0.15)
    assert result.std == pytest.approx(raw.std(1).tolist(), rel=0.06)
    assert (result.images, result.autoencoder) == (7, "a")
    exact = torch.cat([m.mean.double().transpose(0, 1).flatten(1) for m in batches], dim=1)
    assert result.mean == pytest.approx(exact.mean(1).tolist())
    variance = exact.var(1, correction=0) + 0.25
    assert result.std == pytest.approx(variance.sqrt().tolist(), rel=1e-6)


def test_latents_that_are_normalised_by_them_have_rms_1() -> None:
    result = latent_statistics([batch(8, 16, 0)], "a")
    assert result.rms(result.affine) == pytest.approx(1)
    double = Affine(result.affine.shift, result.affine.scale / 2)
    assert result.rms(double) == pytest.approx(2)
    part = Affine(torch.zeros(1, 3, 1, 1), torch.ones(1, 3, 1, 1))
    square = torch.tensor(result.mean) ** 2 + torch.tensor(result.std) ** 2
    assert result.rms(part) == pytest.approx(float(square.mean().sqrt()))


def test_they_survive_their_record_to_the_last_bit() -> None:
    result = latent_statistics([batch(2, 8, 0)], "a")
    again = LatentStatistics.from_dict(result.to_dict())
    assert again == result
    assert torch.equal(again.affine.scale.flatten(), torch.tensor(result.std))
    own = statistics_from_affine(result.affine, "a")
    assert (own.mean, own.std, own.images) == (result.mean, result.std, 0)
    with pytest.raises(ConfigError, match=r"missing|required"):
        LatentStatistics.from_dict({"mean": [0.0]})


@pytest.mark.parametrize(
    ("moments", "message"),
    [
        ([], "at least one image"),
        (
            [Moments(mean=torch.full((2, 3, 4, 4), 7.0), std=torch.full((2, 3, 4, 4), 0.1))],
            r"channel 0 of 3 is constant in 2 images .*normalisation weights",
        ),
        (
            [Moments(mean=torch.full((2, 3, 4, 4), torch.nan), std=torch.ones(2, 3, 4, 4))],
            r"channel 0 of 3 has values that are not finite",
        ),
        (
            [batch(2, 4, 0, std=torch.inf)],
            r"channel 0 of 3 has values that are not finite",
        ),
    ],
)
def test_what_no_division_makes_usable_is_refused(moments: list[Moments], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        latent_statistics(moments, "a")


def test_sums_depend_on_the_batches_alone() -> None:
    sums = LatentSums()
    for part in (batch(2, 8, 0), batch(5, 8, 1)):
        sums.add(part)
    assert sums.statistics("a") == latent_statistics([batch(2, 8, 0), batch(5, 8, 1)], "a")
