# SPDX-License-Identifier: Apache-2.0
"""Contrasts: the comparisons of a study, declared before its first run.

A contrast is a weighted sum of means over arms,  psi = sum_k w_k mu(arm_k, metric_k),  whose
weights sum to 0. Each claim is one contrast: a difference of two arms, a main effect or an
interaction of a factorial design (which uses every arm), a trend along an ordered axis.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

from pippin.config import Config, ConfigError
from pippin.studies.claims import claim_problems, refuse_repeated_names

Scale = Literal["raw", "share of real"]
Role = Literal["primary", "secondary", "exploratory"]
Prediction = Literal["negative", "positive", "none", "open"]

MAX_PRIMARY = 3
"""Largest number of primary contrasts of a study: each additional one lowers the power of all."""
_CHOICES: dict[str, tuple[str, ...]] = {
    "scale": get_args(Scale),
    "role": get_args(Role),
    "predicted": get_args(Prediction),
}
_ZERO = 1e-9
"""Tolerance of the sum of weights, as a share of the sum of their absolute values."""


@dataclass(frozen=True, kw_only=True)
class ContrastTerm(Config):
    """One weighted mean of a contrast."""

    arm: str
    metric: str
    weight: float


@dataclass(frozen=True, kw_only=True)
class Contrast(Config):
    """One claim as a weighted sum of arms' means, with its prediction."""

    name: str
    claim: str
    """One sentence that is true if the prediction holds."""
    terms: tuple[ContrastTerm, ...]
    scale: Scale = "raw"
    """"share of real" divides every value by the metric's mean on real images, so that effects of
    different controls can be compared."""
    role: Role = "primary"
    """Primary contrasts get a verdict, as one family; all others are exploratory."""
    smallest_effect: float | None = None
    """The smallest size that matters, in the contrast's unit."""
    predicted: Prediction = "open"
    """The prediction: psi < 0, psi > 0, no difference that matters, or only that there is a
    difference. With a smallest effect, a smaller difference counts as none."""

    @property
    def metrics(self) -> tuple[str, ...]:
        """The metrics of its terms, each once."""
        return tuple(dict.fromkeys(term.metric for term in self.terms))


def difference(first: str, second: str, metric: str, **declared: Any) -> Contrast:
    """The contrast  second - first.

    Args:
        first, second: names of arms.
        metric: the metric whose means are compared.
        declared: the other fields of :class:`Contrast`.
    """
    return Contrast(terms=_terms({first: -1.0, second: 1.0}, metric), **declared)


def main_effect(
    combinations: Mapping[str, Mapping[str, str]],
    axis: str,
    low: str,
    high: str,
    metric: str,
    **declared: Any,
) -> Contrast:
    """The mean over arms at level ``high`` of one axis minus the mean at level ``low``.

    Args:
        combinations: arm -> axis -> level, of :meth:`Study.arm_levels`. Arms at other levels of
            the axis are not used.
        axis: the axis whose effect is taken.
        low, high: two of its levels.
        metric: the metric whose means are compared.
        declared: the other fields of :class:`Contrast`.

    Raises:
        ConfigError: the two levels are not combined with the same levels of the other axes.
    """
    below, above = (_cells(combinations, {axis: level}) for level in (low, high))
    _refuse_unbalanced(axis, low, below, high, above)
    weights = dict.fromkeys(below.values(), -1 / len(below))
    weights |= dict.fromkeys(above.values(), 1 / len(above))
    return Contrast(terms=_terms(weights, metric), **declared)


def interaction(
    combinations: Mapping[str, Mapping[str, str]],
    first: tuple[str, str, str],
    second: tuple[str, str, str],
    metric: str,
    **declared: Any,
) -> Contrast:
    """The effect of one axis at a second axis' ``high`` level minus that at its ``low`` level.

    The difference of the two differences, not half of it.

    Args:
        combinations: arm -> axis -> level, of :meth:`Study.arm_levels`.
        first, second: (axis, low level, high level) of each.
        metric: the metric whose means are compared.
        declared: the other fields of :class:`Contrast`.

    Raises:
        ConfigError: the levels are not combined with the same levels of the other axes.
    """
    axis, low, high = second
    inside = [
        main_effect(_at(combinations, axis, level), *first, metric, name="", claim="")
        for level in (low, high)
    ]
    return minus(inside[1], inside[0], **declared)


def linear(
    arms: Sequence[str], metric: str, positions: Sequence[float] | None = None, **declared: Any
) -> Contrast:
    """The slope of the least-squares line through the means of arms along an ordered axis.

    Weights are  (x_k - mean x) / sum_j (x_j - mean x)^2;  the unit is the metric's per unit of
    ``positions``.

    Args:
        arms: names of arms in the order of the axis.
        metric: the metric whose means are compared.
        positions: position of each arm along the axis; None = 0, 1, 2, ..., the unit is per step.
        declared: the other fields of :class:`Contrast`.

    Raises:
        ConfigError: not one position for each arm, or all positions are equal.
    """
    coordinates = [float(x) for x in (range(len(arms)) if positions is None else positions)]
    if len(coordinates) != len(arms) or len(set(coordinates)) < 2:
        raise ConfigError(
            f"a trend needs one position for each arm and two different ones at least; got "
            f"{len(arms)} arms and positions {coordinates}"
        )
    mean = sum(coordinates) / len(coordinates)
    total = sum((x - mean) ** 2 for x in coordinates)
    weights = [(x - mean) / total for x in coordinates]
    terms = tuple(
        ContrastTerm(arm=arm, metric=metric, weight=weight)
        for arm, weight in zip(arms, weights, strict=True)
        if weight
    )
    return Contrast(terms=terms, **declared)


def minus(first: Contrast, second: Contrast, **declared: Any) -> Contrast:
    """The contrast  first - second, such as an effect on one metric against that on another.

    Args:
        first, second: contrasts; only their terms are used.
        declared: the other fields of :class:`Contrast`.
    """
    negated = (replace(term, weight=-term.weight) for term in second.terms)
    return Contrast(terms=(*first.terms, *negated), **declared)


def check_contrasts(contrasts: Sequence[Contrast], arms: Collection[str]) -> None:
    """Refuse contrasts that cannot be evaluated, and too many primary contrasts.

    Args:
        contrasts: contrasts of one study.
        arms: the names of its arms.

    Raises:
        ConfigError: the message names the contrast, what is wrong and what is allowed.
    """
    refuse_repeated_names("contrasts", contrasts)
    primary = [contrast.name for contrast in contrasts if contrast.role == "primary"]
    if len(primary) > MAX_PRIMARY:
        raise ConfigError(
            f"{len(primary)} contrasts are primary ({', '.join(primary)}); at most "
            f"{MAX_PRIMARY} are allowed: give the others role='secondary' or 'exploratory'"
        )
    for contrast in contrasts:
        for problem in _problems(contrast, arms):
            raise ConfigError(f"contrast {contrast.name!r}: {problem}")


def _problems(contrast: Contrast, arms: Collection[str]) -> Iterator[str]:
    """Errors of one contrast, one message each."""
    for field, allowed in _CHOICES.items():
        if (value := getattr(contrast, field)) not in allowed:
            yield f"{field} must be one of {', '.join(allowed)}; got {value!r}"
    yield from claim_problems(contrast, [term.arm for term in contrast.terms], arms)
    yield from _weight_problems(contrast)
    smallest = contrast.smallest_effect
    if smallest is not None and not 0 < smallest < float("inf"):
        yield f"smallest_effect must be > 0; got {smallest}"
    if contrast.predicted == "none" and smallest is None:
        yield "predicted='none' needs smallest_effect, the smallest difference that matters"


def _weight_problems(contrast: Contrast) -> Iterator[str]:
    """Errors of the weights. Terms of one arm and metric are added up. Raw values of different
    metrics have different units, so the weights of each metric must sum to 0; on the scale
    "share of real" only all weights together must."""
    groups: dict[str, dict[tuple[str, str], float]] = {}
    for term in contrast.terms:
        group = groups.setdefault(term.metric if contrast.scale == "raw" else "all metrics", {})
        key = (term.arm, term.metric)
        group[key] = group.get(key, 0.0) + term.weight
    if not groups:
        yield "it needs terms with finite weights other than 0; got none"
    for metric, summed in groups.items():
        weights = [*summed.values()]
        size = sum(abs(weight) for weight in weights)
        if not _ZERO < size < float("inf"):
            yield f"it needs terms with finite weights other than 0; got {weights} for {metric!r}"
        elif abs(sum(weights)) > _ZERO * size:
            yield (
                f"its weights must sum to 0 for each metric; got {weights} for {metric!r}, which "
                f"sum to {sum(weights):g}"
            )


def _terms(weights: Mapping[str, float], metric: str) -> tuple[ContrastTerm, ...]:
    return tuple(
        ContrastTerm(arm=arm, metric=metric, weight=weight) for arm, weight in weights.items()
    )


def _at(
    combinations: Mapping[str, Mapping[str, str]], axis: str, level: str
) -> dict[str, Mapping[str, str]]:
    """The arms at one level of an axis."""
    return {arm: combinations[arm] for arm in _cells(combinations, {axis: level}).values()}


def _cells(
    combinations: Mapping[str, Mapping[str, str]], fixed: Mapping[str, str]
) -> dict[tuple[tuple[str, str], ...], str]:
    """Levels of the other axes -> the arm with these and the fixed levels."""
    arms = {
        tuple(sorted((axis, level) for axis, level in levels.items() if axis not in fixed)): arm
        for arm, levels in combinations.items()
        if all(levels.get(axis) == level for axis, level in fixed.items())
    }
    if not arms:
        available = {
            axis: sorted({arm.get(axis, "") for arm in combinations.values()}) for axis in fixed
        }
        raise ConfigError(f"no arm is at {dict(fixed)}; the levels are: {available}")
    return arms


def _refuse_unbalanced(
    axis: str,
    low: str,
    below: Mapping[tuple[tuple[str, str], ...], str],
    high: str,
    above: Mapping[tuple[tuple[str, str], ...], str],
) -> None:
    unmatched = [dict(levels) for levels in set(below) ^ set(above)]
    if low == high or unmatched:
        raise ConfigError(
            f"the effect of axis {axis!r} needs two levels that are combined with the same levels "
            f"of the other axes; {low!r} and {high!r} are not: {unmatched or 'they are one level'}"
        )
