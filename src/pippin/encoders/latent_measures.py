# SPDX-License-Identifier: Apache-2.0
"""Measures of latents that bear on how hard they are to diffuse."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from pippin.types import Latents


@dataclass(frozen=True, kw_only=True)
class LatentMeasures:
    """Shape of the distribution of normalised latents."""

    excess_kurtosis: float
    """Mean over channels; 0 for normal values, positive for heavy tails."""
    fine_share: float
    """Share of the variance that lies within 2 x 2 squares of positions; 3/4 for white noise, 0
    for latents that are constant there."""
    effective_channels: float
    """Participation ratio (sum of l)^2 / sum of l^2 of the eigenvalues l of the covariance of
    channels: between 1 and their number."""


def measure_latents_shape(latents: Latents) -> LatentMeasures:
    """Measure latents, in float64.

    Args:
        latents: normalised latents of many images; sides are even.
    """
    values = latents.double()
    centred = values - values.mean((0, 2, 3), keepdim=True)
    variance = centred.square().mean((0, 2, 3))
    kurtosis = centred.pow(4).mean((0, 2, 3)) / variance.square() - 3
    coarse = F.avg_pool2d(centred, 2).square().mean((0, 2, 3))
    return LatentMeasures(
        excess_kurtosis=float(kurtosis.mean()),
        fine_share=float(1 - coarse.sum() / variance.sum()),
        effective_channels=_participation_ratio(centred.transpose(0, 1).flatten(1)),
    )


def _participation_ratio(rows: Float[Tensor, "channels values"]) -> float:
    """(trace C)^2 / trace C^2 of the covariance C of centred rows."""
    covariance = rows @ rows.T / rows.shape[1]
    return float(torch.trace(covariance) ** 2 / covariance.square().sum())
