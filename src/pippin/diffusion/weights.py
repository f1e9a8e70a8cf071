# SPDX-License-Identifier: Apache-2.0
"""Loss weights, each in the unit of the prediction that it multiplies."""

import torch

from pippin.diffusion.config import MinSNRWeight, PredictionType, UniformWeight
from pippin.diffusion.prediction import target_coefficients
from pippin.diffusion.schedules import NoiseSchedule
from pippin.types import Times

_MIN_FACTOR = 1e-12
"""Lower bound of alpha and sigma, so that the weight takes its limit instead of 0 / 0."""


def loss_weight(
    config: UniformWeight | MinSNRWeight,
    prediction_type: PredictionType,
    schedule: NoiseSchedule,
    t: Times,
) -> Times:
    """Weight of the squared error of a prediction in its own unit (float32).

    Min-SNR (Hang et al. 2023, arXiv 2303.09556) weighs the error of x0 by min(SNR, gamma). For
    given x_t, an error e of x0 is an error -(d / sigma) e of a prediction whose determinant with
    x_t is d (see :mod:`pippin.diffusion.prediction`), so the weight of the latter error is
    min(alpha^2, gamma sigma^2) / d^2. For eps that is min(1, gamma / SNR).
    """
    if isinstance(config, UniformWeight):
        return torch.ones_like(t, dtype=torch.float32)
    alpha = schedule.alpha(t.double()).clamp(min=_MIN_FACTOR)
    sigma = schedule.sigma(t.double()).clamp(min=_MIN_FACTOR)
    a, b = target_coefficients(prediction_type, alpha, sigma)
    determinant = alpha * b - sigma * a
    weight = torch.minimum(alpha.square(), config.gamma * sigma.square())
    return (weight / determinant.square()).float()
