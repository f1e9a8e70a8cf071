# SPDX-License-Identifier: Apache-2.0
"""Classifier-free guidance with two scales, one for semantics and one for control.

With e(c, s) the prediction under control c and semantics s, and 0 for a dropped condition,

    e = lambda [ beta e(c, s) + (1 - beta) e(0, s) ] + (1 - lambda) e(0, 0)

(Berrada et al. 2024, arXiv 2411.03177). lambda = beta = 1 is the conditional prediction;
beta = 1 alone is classifier-free guidance (Ho & Salimans 2022) whose reference drops both.
The formula is linear, and so are the conversions between prediction types: it does not matter
in which unit the model predicts.
"""

import math
from collections.abc import Callable
from dataclasses import replace
from functools import cache

import torch
from jaxtyping import Float
from torch import Tensor

from pippin.diffusion.schedules import NoiseSchedule
from pippin.sampling.config import GuidanceConfig
from pippin.types import NUM_TIMES, Prediction

Predict = Callable[[Tensor, Tensor], Prediction]
"""(x_t (batch, channels, height, width), t (batch,)) -> Prediction."""

Term = tuple[bool, bool]
"""(semantic kept, control kept)."""
Predictions = Callable[[Tensor, Tensor], dict[Term, Prediction]]
"""Like :data:`Predict`, for several terms."""

CONDITIONAL: Term = (True, True)
"""e(c, s)."""


def scale_at_resolution(scale: float, ratio: float) -> float:
    """lambda' = 1 + s (lambda - 1): the semantic scale at s times the side (Berrada et al. 2024).

    Args:
        scale: lambda, the best scale at the old resolution.
        ratio: s, the new side over the old one.

    Raises:
        ValueError: ratio is not above 0.
    """
    if not ratio > 0:
        raise ValueError(f"ratio is the new side over the old one, above 0; got {ratio}")
    return 1 + ratio * (scale - 1)


def guidance_weights(config: GuidanceConfig) -> dict[Term, float]:
    """Weight of each prediction, by (semantic kept, control kept).

    The weights sum to 1. GuidanceTerms of weight zero are left out.
    """
    semantic, control = config.semantic_scale, config.control_scale
    reference = (False, config.reference == "control")
    weights = {
        CONDITIONAL: semantic * control,
        (True, False): semantic * (1 - control),
        reference: 1 - semantic,
    }
    return {term: weight for term, weight in weights.items() if weight != 0}


def power_cosine(
    scale: Tensor | float, t: Float[Tensor, " batch"], power: float
) -> Float[Tensor, " batch"]:
    """1 + (scale - 1) (1 - cos(pi u^power)) / 2 with u = 1 - t / 1000 (MDTv2: Gao et al. 2023)."""
    share = (1 - t.double() / NUM_TIMES) ** power
    return 1 + (scale - 1) * (1 - torch.cos(math.pi * share)) / 2


def at_time(config: GuidanceConfig, t: Float[Tensor, " batch"]) -> GuidanceConfig:
    """The guidance with its semantic scale at a time."""
    if config.semantic_power is None:
        return config
    scale = power_cosine(config.semantic_scale, t[:1], config.semantic_power)
    return replace(config, semantic_scale=float(scale), semantic_power=None)


def separate_terms(
    term: Callable[[bool, bool], Predict],
) -> Callable[[tuple[Term, ...]], Predictions]:
    """Compute terms one after the other, each prepared on first use."""
    cached = cache(term)

    def prepare(keys: tuple[Term, ...]) -> Predictions:
        return lambda x_t, t: {key: cached(*key)(x_t, t) for key in keys}

    return prepare


def guided(
    terms: Callable[[tuple[Term, ...]], Predictions],
    config: GuidanceConfig,
    schedule: NoiseSchedule,
) -> Predict:
    """The guided prediction as a function of state and time.

    GuidanceTerms are prepared on first use and then cached; a term of weight zero is never
    prepared. The guided ``mean`` is float32, except that without guidance the conditional
    prediction's own ``mean`` is returned, bit for bit. ``variance`` is the conditional
    prediction's (None where that one is not computed); ``aux`` is dropped.

    Args:
        terms: computes the predictions by (semantic kept, control kept); see
            :func:`separate_terms`.
        config: the scales, the reference, the interval and the channels.
        schedule: defines the log-SNR of the interval. All rows of one call share one time.

    Raises:
        ValueError: a number of channels that the prediction does not have.
    """
    cached = cache(terms)

    def predict(x_t: Tensor, t: Tensor) -> Prediction:
        weights = guidance_weights(at_time(config, t))
        if weights.keys() == {CONDITIONAL} or not _inside(config, schedule, t):
            unguided = cached((CONDITIONAL,))(x_t, t)[CONDITIONAL]
            return Prediction(mean=unguided.mean, variance=unguided.variance)
        keys = set(weights) if config.cfg_channels is None else {*weights, CONDITIONAL}
        predictions = cached(tuple(sorted(keys, reverse=True)))(x_t, t)
        mean = _combine({key: predictions[key].mean for key in weights}, weights)
        conditional = predictions.get(CONDITIONAL)
        if conditional is None:
            return Prediction(mean=mean)
        mean = _first_channels(mean, conditional.mean, config.cfg_channels)
        return Prediction(mean=mean, variance=conditional.variance)

    return predict


def _combine(means: dict[Term, Tensor], weights: dict[Term, float]) -> Tensor:
    """The weighted sum, in float32: guidance amplifies differences of close numbers."""
    terms = [weight * means[key].float() for key, weight in weights.items()]
    return torch.stack(terms).sum(0)


def _first_channels(
    mean: Float[Tensor, "batch channels height width"],
    conditional: Float[Tensor, "batch channels height width"],
    channels: int | None,
) -> Float[Tensor, "batch channels height width"]:
    """Guide the first channels only; the others come from the conditional prediction."""
    if channels is None:
        return mean
    if channels > mean.shape[1]:
        raise ValueError(
            f"cfg_channels={channels}, but the prediction has only {mean.shape[1]} channels; "
            "leave it at None to guide all of them"
        )
    return torch.cat([mean[:, :channels], conditional[:, channels:].float()], dim=1)


def _inside(config: GuidanceConfig, schedule: NoiseSchedule, t: Tensor) -> bool:
    if config.log_snr_interval is None:
        return True
    low, high = config.log_snr_interval
    return low <= schedule.log_snr(t[:1].double()).item() <= high
