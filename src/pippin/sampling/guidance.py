# SPDX-License-Identifier: Apache-2.0
"""Classifier-free guidance with two scales, one for semantics and one for control.

With e(c, s) the prediction under control c and semantics s, and 0 for a dropped condition,

    e = lambda [ beta e(c, s) + (1 - beta) e(0, s) ] + (1 - lambda) e(0, 0)

(Berrada et al. 2024, arXiv 2411.03177). lambda = beta = 1 is the conditional prediction;
beta = 1 alone is classifier-free guidance (Ho & Salimans 2022) whose reference drops both.
The formula is linear, and so are the conversions between prediction types: it does not matter
in which unit the model predicts.

Two variants: a weaker model in the place of the dropped conditions
(:mod:`pippin.sampling.autoguidance`), and a correction of the guided prediction's standard
deviation (:mod:`pippin.sampling.guidance_rescale`), which is not linear.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import cache
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from pippin.diffusion.schedules import NoiseSchedule
from pippin.sampling.config import GuidanceConfig
from pippin.sampling.guidance_rescale import rescaled
from pippin.types import NUM_TIMES, Conditions, Keep, Prediction

Term = tuple[bool, bool]
"""(semantic kept, control kept)."""


@runtime_checkable
class Predict(Protocol):
    """Prediction of a model under fixed conditions."""

    def __call__(self, x_t: Tensor, t: Tensor, interval: Tensor | None = None, /) -> Prediction:
        """Predict for states (batch, channels, height, width) at times (batch,); with an interval
        t - r (batch,) the mean velocity of it."""


@runtime_checkable
class Predictions(Protocol):
    """Predictions of several terms."""

    def __call__(
        self, x_t: Tensor, t: Tensor, interval: Tensor | None = None, /
    ) -> dict[Term, Prediction]:
        """Predict as :class:`Predict`."""


@runtime_checkable
class GuidedPredict(Protocol):
    """Guided prediction, at one time and interval for all rows: numbers, since reading the time of
    the guidance from a GPU would wait for it."""

    def __call__(self, x_t: Tensor, time: float, interval: float | None = None, /) -> Prediction:
        """Predict for states (batch, channels, height, width)."""


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

    The weights sum to 1. Terms of weight zero are left out.
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
    """1 + (scale - 1) (1 - cos(pi u^power)) / 2 with u = 1 - t / 1000 (MDTv2: Gao et al. 2023).

    Args:
        scale: semantic scale at t = 0, the end of sampling; one number, or one per time.
        t: times in [0, 1000].
        power: exponent; the larger, the later the guidance sets in.

    Returns:
        The scale at each time, float64: 1, no guidance, at t = 1000.
    """
    share = (1 - t.double() / NUM_TIMES) ** power
    return 1 + (scale - 1) * (1 - torch.cos(math.pi * share)) / 2


def at_time(config: GuidanceConfig, t: float) -> GuidanceConfig:
    """The guidance with its semantic scale at a time."""
    if config.semantic_power is None:
        return config
    scale = power_cosine(config.semantic_scale, _rounded(t), config.semantic_power)
    return replace(config, semantic_scale=float(scale), semantic_power=None)


def separate_terms(
    term: Callable[[bool, bool], Predict],
) -> Callable[[tuple[Term, ...]], Predictions]:
    """Compute terms one after the other, each prepared on first use."""
    cached = cache(term)

    def prepare(keys: tuple[Term, ...]) -> Predictions:
        return lambda *inputs: {key: cached(*key)(*inputs) for key in keys}

    return prepare


def guided(
    terms: Callable[[tuple[Term, ...]], Predictions],
    config: GuidanceConfig,
    schedule: NoiseSchedule,
    guide: Predict | None = None,
) -> GuidedPredict:
    """The guided prediction as a function of state and time.

    Terms are prepared on first use and then cached; a term of weight zero is never prepared. The
    guided ``mean`` is float32, except that without guidance the conditional prediction's own
    ``mean`` is returned, bit for bit. ``variance`` is the conditional prediction's (None where
    that one is not computed); ``aux`` is dropped.

    Args:
        terms: computes the predictions by (semantic kept, control kept); see
            :func:`separate_terms`.
        config: the scales, the reference, the interval, the channels and the rescaling.
        schedule: defines the log-SNR of the interval.
        guide: the weaker model's conditional prediction; needed for a ``guide_scale`` other
            than 1, and called only where it guides.

    Raises:
        ValueError: a number of channels that the prediction does not have, or no guide.
    """
    cached = cache(terms)
    by_guide = config.guide_scale != 1
    if by_guide and guide is None:
        raise ValueError(f"guide_scale {config.guide_scale} needs a guide; got none")
    needs_conditional = by_guide or config.cfg_channels is not None or config.rescale > 0

    def predict(x_t: Tensor, time: float, interval: float | None = None) -> Prediction:
        numbers = (time,) if interval is None else (time, interval)
        inputs = (x_t, *(x_t.new_full((len(x_t),), number) for number in numbers))
        weights = guidance_weights(at_time(config, time))
        is_conditional = weights.keys() == {CONDITIONAL} and not by_guide
        if is_conditional or not _inside(config, schedule, time):
            unguided = cached((CONDITIONAL,))(*inputs)[CONDITIONAL]
            return Prediction(mean=unguided.mean, variance=unguided.variance)
        keys = {*weights, CONDITIONAL} if needs_conditional else set(weights)
        predictions = cached(tuple(sorted(keys, reverse=True)))(*inputs)
        mean = _combine({key: predictions[key].mean for key in weights}, weights)
        if guide is not None and by_guide:
            mean = extrapolate(guide(*inputs).mean, mean, config.guide_scale)
        conditional = predictions.get(CONDITIONAL)
        if conditional is None:
            return Prediction(mean=mean)
        mean = _adjusted(mean, conditional.mean, config)
        return Prediction(mean=mean, variance=conditional.variance)

    return predict


NEGLIGIBLE = 1e-3
"""Share of the full scale at which power-cosine guidance is as good as off."""


def acts_at(config: GuidanceConfig, schedule: NoiseSchedule, t: float) -> bool:
    """Whether guidance changes the prediction at a time."""
    if not _inside(config, schedule, t):
        return False
    if config.guide_scale != 1:
        return True
    full = replace(config, semantic_power=None)
    return _strength(at_time(config, t)) > NEGLIGIBLE * _strength(full)


def _strength(config: GuidanceConfig) -> float:
    """Largest weight of a term other than the conditional one."""
    weights = guidance_weights(config)
    return max((abs(weights[term]) for term in weights if term != CONDITIONAL), default=0.0)


def _combine(means: dict[Term, Tensor], weights: dict[Term, float]) -> Tensor:
    """The weighted sum, in float32: guidance amplifies differences of close numbers."""
    terms = [weight * means[key].float() for key, weight in weights.items()]
    return torch.stack(terms).sum(0)


def extrapolate(
    weak: Float[Tensor, "*shape"], strong: Float[Tensor, "*shape"], scale: float
) -> Float[Tensor, "*shape"]:
    """weak + scale (strong - weak), in float32; bit for bit ``strong`` where both are equal.

    Args:
        weak: prediction to move away from, such as the unconditional one; any shape.
        strong: prediction to move towards, of the same shape.
        scale: 0 gives ``weak``, 1 ``strong`` up to rounding; guidance is above 1.
    """
    weak, strong = weak.float(), strong.float()
    return weak + scale * (strong - weak)


def _adjusted(
    mean: Float[Tensor, "batch channels height width"],
    conditional: Float[Tensor, "batch channels height width"],
    config: GuidanceConfig,
) -> Float[Tensor, "batch channels height width"]:
    """Rescale the guided channels; the others come from the conditional prediction."""
    channels = config.cfg_channels
    if channels is None:
        return rescaled(mean, conditional, config.rescale)
    if channels > mean.shape[1]:
        raise ValueError(
            f"cfg_channels={channels}, but the prediction has only {mean.shape[1]} channels; "
            "leave it at None to guide all of them"
        )
    first = rescaled(mean[:, :channels], conditional[:, :channels], config.rescale)
    return torch.cat([first, conditional[:, channels:].float()], dim=1)


def _rounded(t: float) -> Float[Tensor, "1"]:
    """The time as the network gets it."""
    return torch.tensor([t], dtype=torch.float32)


def _inside(config: GuidanceConfig, schedule: NoiseSchedule, t: float) -> bool:
    if config.log_snr_interval is None:
        return True
    low, high = config.log_snr_interval
    return low <= schedule.log_snr(_rounded(t).double()).item() <= high


@runtime_checkable
class ConditionalModel(Protocol):
    """Interface of a model for the sampler."""

    def prepare(self, conditions: Conditions, keep: Keep | None = None) -> Any:
        """Embed the conditions (on the CPU) once; what is not kept becomes its null."""

    def __call__(
        self, x_t: Tensor, t: Tensor, prepared: Any, *, interval: Tensor | None = None
    ) -> Prediction:
        """Predict for states (batch, channels, height, width) at times (batch,). The interval
        t - r (batch,) is given to models of mean velocities alone."""

    def parameters(self) -> Iterator[nn.Parameter]:
        """As :meth:`torch.nn.Module.parameters`."""

    def modules(self) -> Iterator[nn.Module]:
        """As :meth:`torch.nn.Module.modules`."""


class GuidanceTerms:
    """The model under each choice of kept conditions."""

    def __init__(
        self,
        model: ConditionalModel,
        conditions: Conditions,
        rows: int,
        autocast: Callable[[], AbstractContextManager[None]],
    ) -> None:
        self._model, self._conditions, self._rows = model, conditions, rows
        self._autocast = autocast

    def __call__(self, semantic: bool, control: bool) -> Predict:
        """One term: a batch of its own."""
        return self._predict(*self._conditions_of((semantic, control)))

    def batched(self, keys: tuple[Term, ...]) -> Predictions:
        """All terms in one batch, concatenated along the rows."""
        parts, keeps = zip(*map(self._conditions_of, keys), strict=True)
        keep = Keep(
            semantic=torch.cat([part.semantic for part in keeps]),
            control=torch.cat([part.control for part in keeps]),
        )
        predict_all = self._predict(Conditions.cat(parts), keep)

        def predict(
            x_t: Tensor, t: Tensor, interval: Tensor | None = None
        ) -> dict[Term, Prediction]:
            repeated = (x.repeat(len(keys)) for x in (t, interval) if x is not None)
            prediction = predict_all(x_t.repeat(len(keys), 1, 1, 1), *repeated)
            means = prediction.mean.chunk(len(keys))
            variances: Sequence[Tensor | None] = [None] * len(keys)
            if prediction.variance is not None:
                variances = prediction.variance.chunk(len(keys))
            return {
                key: Prediction(mean=mean, variance=variance)
                for key, mean, variance in zip(keys, means, variances, strict=True)
            }

        return predict

    def _conditions_of(self, key: Term) -> tuple[Conditions, Keep]:
        """The conditions of a term, and which of them are kept."""
        (semantic, control), conditions = key, self._conditions
        if not semantic and conditions.negative_text is not None:
            conditions, semantic = replace(conditions, text=conditions.negative_text), True
        device = device_of(self._model)
        keep = Keep(
            semantic=torch.full((self._rows,), semantic, device=device),
            control=torch.full((self._rows,), control, device=device),
        )
        return replace(conditions, negative_text=None), keep

    def _predict(self, conditions: Conditions, keep: Keep) -> Predict:
        with self._autocast():
            prepared = self._model.prepare(conditions, keep)

        def predict(x_t: Tensor, t: Tensor, interval: Tensor | None = None) -> Prediction:
            interval_argument = {} if interval is None else {"interval": interval}
            with self._autocast():
                return self._model(x_t, t, prepared, **interval_argument)

        return predict


def device_of(model: ConditionalModel) -> torch.device:
    """Device of the model; the CPU for one without parameters."""
    first = next(iter(model.parameters()), None)
    return torch.device("cpu") if first is None else first.device
