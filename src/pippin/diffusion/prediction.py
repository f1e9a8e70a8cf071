# SPDX-License-Identifier: Apache-2.0
"""Prediction types (eps, v, x0, flow), conversions between them, and loss weights.

Each prediction is a fixed combination a x0 + b eps of data and noise:

    eps:  eps                       x0:    x0
    v:    alpha eps - sigma x0      flow:  eps - x0

v is that of Salimans & Ho 2022 (appendix D); flow is the velocity dx_t / d sigma of rectified
flow (Liu et al. 2022), and keeps the definition eps - x0 under every schedule. Together with
x_t = alpha x0 + sigma eps this makes two linear equations for x0 and eps, with determinant
alpha b - sigma a: it is alpha for eps, -sigma for x0, alpha^2 + sigma^2 for v, alpha + sigma
for flow. All conversions solve these two equations.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from pippin.diffusion.config import (
    AdaptiveWeight,
    LossWeight,
    MinSNRWeight,
    PredictionType,
    VelocityWeight,
)
from pippin.diffusion.schedules import NoiseSchedule
from pippin.types import Times

Field = Float[Tensor, "batch *rest"]
"""A batch of states, data, noise or predictions."""
PerRow = Float[Tensor, "batch *ones"]
"""alpha or sigma: one number per row, as (batch,) or (batch, 1, ..., 1)."""


def add_noise(x0: Field, eps: Field, alpha: PerRow, sigma: PerRow) -> Field:
    """x_t = alpha x0 + sigma eps; in float32 at least.

    Args:
        x0: data, (batch, ...), such as normalised latents.
        eps: standard normal noise of the same shape.
        alpha, sigma: factors of data and noise, one number per row.

    Returns:
        The noisy state, (batch, ...).
    """
    return per_row(alpha, x0) * x0 + per_row(sigma, x0) * eps


def target(kind: PredictionType, x0: Field, eps: Field, alpha: PerRow, sigma: PerRow) -> Field:
    """Training target of a prediction type for x_t.

    Args:
        kind: the prediction type.
        x0: data, (batch, ...).
        eps: noise of the same shape.
        alpha, sigma: factors of data and noise, one number per row.

    Returns:
        The target, (batch, ...).
    """
    if kind == "eps":
        return eps
    if kind == "x0":
        return x0
    a, b = target_coefficients(kind, alpha, sigma)
    return per_row(a, x0) * x0 + per_row(b, x0) * eps


def to_x0_and_eps(
    kind: PredictionType, x_t: Field, prediction: Field, alpha: PerRow, sigma: PerRow
) -> tuple[Field, Field]:
    """Data and noise that are consistent with x_t and the prediction.

    The predicted quantity is returned unchanged. Where the other one is undetermined
    (x0 from eps at alpha = 0, eps from x0 at sigma = 0) it is 0, the mean of noise and of
    normalised latents. Close to these ends errors of the prediction are amplified by 1 / alpha
    and 1 / sigma.

    Args:
        kind: type of the prediction.
        x_t: noisy state, (batch, ...).
        prediction: of the same shape.
        alpha, sigma: factors of data and noise in x_t, one number per row.

    Returns:
        (x0, eps), each (batch, ...).
    """
    a, b = target_coefficients(kind, alpha, sigma)
    determinant = alpha * b - sigma * a
    regular = determinant != 0
    inverse = torch.where(regular, 1 / torch.where(regular, determinant, 1), 0)
    x0, eps = prediction, prediction
    if kind != "x0":
        x0 = per_row(b * inverse, x_t) * x_t - per_row(sigma * inverse, x_t) * prediction
    if kind != "eps":
        eps = per_row(alpha * inverse, x_t) * prediction - per_row(a * inverse, x_t) * x_t
    return x0, eps


def convert(
    source: PredictionType,
    target_type: PredictionType,
    x_t: Field,
    prediction: Field,
    alpha: PerRow,
    sigma: PerRow,
) -> Field:
    """Convert a prediction to another type; unchanged if the type is the same.

    Args:
        source: type of the prediction.
        target_type: type of the result.
        x_t: noisy state, (batch, ...).
        prediction: of the same shape.
        alpha, sigma: factors of data and noise in x_t, one number per row.

    Returns:
        The converted prediction, (batch, ...).
    """
    if source == target_type:
        return prediction
    x0, eps = to_x0_and_eps(source, x_t, prediction, alpha, sigma)
    return target(target_type, x0, eps, alpha, sigma)


def target_coefficients(
    kind: PredictionType, alpha: PerRow, sigma: PerRow
) -> tuple[PerRow, PerRow]:
    """(a, b) with prediction = a x0 + b eps.

    Args:
        kind: the prediction type.
        alpha, sigma: factors of data and noise, one number per row.

    Returns:
        One number per row each, of alpha's shape.
    """
    zero, one = torch.zeros_like(alpha), torch.ones_like(alpha)
    return {
        "eps": (zero, one),
        "x0": (one, zero),
        "v": (-sigma, alpha),
        "flow": (-one, one),
    }[kind]


def mean_of_values(values: Field, mask: Tensor | None = None) -> Float[Tensor, " batch"]:
    """Mean over the values of each row.

    Args:
        values: (batch, channels, height, width).
        mask: (batch, 1, height, width), 1 at the positions that count and 0 at others; None = all.
    """
    if mask is None:
        return values.mean(dim=(1, 2, 3))
    return (values.mean(dim=1, keepdim=True) * mask).sum(dim=(1, 2, 3)) / mask.sum(dim=(1, 2, 3))


MIN_NORM = 0.1
"""Lower bound of the norms in the direction error; those of velocities are about the root of twice
the number of channels. The gradient is 1 / norm: with torch's bound of 1e-8, that of a network
whose last layer begins at zero would be 1e8."""


def direction_error(
    prediction: Float[Tensor, "batch channels height width"],
    expected: Float[Tensor, "batch channels height width"],
) -> Float[Tensor, "batch 1 height width"]:
    """1 - cosine similarity of two fields over the channels of each latent pixel (LightningDiT,
    Yao et al. 2025, arXiv 2501.01423, velocity direction loss), with norms of at least
    :data:`MIN_NORM`."""
    return 1 - F.cosine_similarity(prediction, expected, dim=1, eps=MIN_NORM)[:, None]


def per_row(values: Tensor, like: Tensor) -> Tensor:
    """Reshape one number per row to broadcast over a batch; bf16 is promoted to float32."""
    values = values if values.dtype == torch.float64 else values.float()
    return values.reshape(-1, *[1] * (like.dim() - 1))


_MIN_FACTOR = 1e-12
"""Lower bound of alpha and sigma, so that the weight takes its limit instead of 0 / 0."""


def loss_weight(
    config: LossWeight,
    prediction_type: PredictionType,
    schedule: NoiseSchedule,
    t: Times,
) -> Times:
    """Weight of the squared error of a prediction in its own unit (float32).

    Min-SNR (Hang et al. 2023, arXiv 2303.09556) weighs the error of x0 by min(SNR, gamma). For
    given x_t, an error e of x0 is an error -(d / sigma) e of a prediction whose determinant with
    x_t is d (see :mod:`pippin.diffusion.prediction`), so the weight of the latter error is
    min(alpha^2, gamma sigma^2) / d^2. For eps that is min(1, gamma / SNR).

    The velocity weight (Li & He 2025, arXiv 2511.13720) gives the error of the velocity eps - x0,
    which is (alpha + sigma) / sigma times that of x0, with sigma there not below a floor. For x0
    and rectified flow that is 1 / max(sigma, floor)^2; for the velocity itself 1 above the floor.

    It is 1 for the adaptive weight, which depends on the error: :func:`adaptive_weight`.
    """
    if not isinstance(config, MinSNRWeight | VelocityWeight):
        return torch.ones_like(t, dtype=torch.float32)
    alpha = schedule.alpha(t.double()).clamp(min=_MIN_FACTOR)
    sigma = schedule.sigma(t.double()).clamp(min=_MIN_FACTOR)
    a, b = target_coefficients(prediction_type, alpha, sigma)
    determinant = alpha * b - sigma * a
    if isinstance(config, VelocityWeight):
        weight = ((alpha + sigma) * sigma / sigma.clamp(min=config.floor)).square()
    else:
        weight = torch.minimum(alpha.square(), config.gamma * sigma.square())
    return (weight / determinant.square()).float()


def adaptive_weight(
    config: AdaptiveWeight, error: Float[Tensor, " batch"], values: int
) -> Float[Tensor, " batch"]:
    """(values / (||error||^2 + c))^p, without gradient, for a mean squared error.

    With p = 1 the weighted error is ||error||^2 / (||error||^2 + c) (Geng et al. 2025, arXiv
    2505.13447, section 4.3). Other powers differ from theirs by values^(1 - p), the same factor
    for all images, so that p = 0 is the mean squared error.

    Args:
        error: squared error of each image, the mean over its values.
        values: number of values of an image.
    """
    return (error.detach() + config.offset / values) ** -config.power
