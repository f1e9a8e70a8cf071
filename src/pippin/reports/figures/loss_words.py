# SPDX-License-Identifier: Apache-2.0
"""Names and explanations of the losses of a log, from the settings of its runs.

A log has two losses that look alike and are different quantities:

- ``loss``: the error of what the network predicts (noise, v, the clean latent or the velocity),
  at random times, with the loss weight of the recipe (:mod:`pippin.objective`);
- ``held_out_loss``: the error of the noise, into which every prediction is converted, as a mean
  over fixed log-SNRs (:mod:`pippin.evaluation.metrics.denoising`).

On one axis a flow model would seem to generalise better than it trains.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

Settings = Mapping[str, Any]
"""Settings of a run by dotted path; from a file, so any of them may be absent."""

HELD_OUT_NAME = "noise error"
NOT_COMPARABLE = (
    "Training loss and held-out loss are different quantities on different scales: other targets, "
    "noise levels and weights. One below the other says nothing about overfitting; compare each "
    "with the same curve of another run."
)
"""Note below the curves, where both are shown."""

_TARGETS = {
    "eps": ("noise error", "noise (eps)"),
    "v": ("v error", "v (alpha eps - sigma x0)"),
    "x0": ("x0 error", "clean latent (x0)"),
    "flow": ("velocity error", "velocity (eps - x0)"),
}
"""Prediction type -> name of its error, and what is predicted."""
_UNKNOWN = ("prediction error", "prediction")


class LossWords(NamedTuple):
    """Words about one loss."""

    name: str
    """Name of the error, for the axis and the title."""
    explanation: str
    """How it is measured."""


LISTED_ARMS = 3
"""The largest group of arms with equal losses is called "the other N arms" if it has more."""


def training_loss_words(arms: Mapping[str, Settings]) -> LossWords:
    """Words about the training loss of all arms; arms of equal losses share them.

    Args:
        arms: name of each arm -> its settings.
    """
    groups: dict[LossWords, list[str]] = {}
    for name, settings in arms.items():
        groups.setdefault(_words(settings), []).append(name)
    if len(groups) == 1:
        return next(iter(groups))
    names = {words.name for words in groups}
    return LossWords(
        name=names.pop() if len(names) == 1 else "errors of different targets",
        explanation="different quantities, not comparable with each other: "
        + "; ".join(_each_group(groups)),
    )


def _each_group(groups: Mapping[LossWords, list[str]]) -> Iterator[str]:
    """Arms and explanation of each group; a large one is last, without the names of its arms."""
    *others, largest = sorted(groups.values(), key=len)
    order = groups.values() if len(largest) <= LISTED_ARMS else (*others, largest)
    words = {tuple(arms): words for words, arms in groups.items()}
    for arms in order:
        many = arms is largest and len(arms) > LISTED_ARMS
        who = f"the other {len(arms)} arms" if many else ", ".join(arms)
        yield f"{who}: {words[tuple(arms)].explanation}"


def held_out_loss_words(arms: Sequence[Settings]) -> LossWords:
    """Words about the held-out loss, which is the same quantity for every prediction type."""
    kinds = {str(settings.get("diffusion.prediction")) for settings in arms}
    converted = "" if kinds == {"eps"} else ", computed from the prediction"
    grids = {str(settings.get("evaluation.loss_log_snrs")) for settings in arms}
    grid = _grid(arms[0].get("evaluation.loss_log_snrs")) if len(grids) == 1 else ""
    return LossWords(
        name=HELD_OUT_NAME,
        explanation=(
            f"mean squared error of the noise (eps){converted}, over a fixed grid of "
            f"log-SNR{grid}, with fixed noise and averaged weights (EMA), on held-out "
            "images"
        ),
    )


def _grid(values: Any) -> str:
    listed = values if isinstance(values, list | tuple) else ()
    numbers = [value for value in listed if isinstance(value, int | float)]
    return f" from {min(numbers):g} to {max(numbers):g}" if numbers else ""


def _words(settings: Settings) -> LossWords:
    """Name and explanation of one run's training loss."""
    name, target = _TARGETS.get(str(settings.get("diffusion.prediction")), _UNKNOWN)
    if settings.get("diffusion.meanflow.share"):
        name, target = "mean velocity error", _mean_velocity(settings)
    parts = [f"mean squared error of the predicted {target}"]
    if weight := _weight(settings):
        parts.append(f"weighted by {weight}")
    parts.append(f"at {_times(settings)}, on training images")
    if settings.get("train.masking.ratio"):
        parts.append("of the kept patches where tokens are hidden")
    terms = ["the variational bound"] if settings.get("denoiser.learn_variance") else []
    if settings.get("denoiser.mask_ratio") is not None:
        terms.append("the same of the masked pass")
    if settings.get("diffusion.direction_weight"):
        terms.append("the error of its direction")
    if settings.get("train.repa.encoder") not in (None, "none"):
        weight = _number(settings.get("train.repa.weight"))
        terms.append(f"{weight} times the negative cosine similarity with frozen features (REPA)")
    if terms:
        parts.append(f"plus {' and '.join(terms)}")
    return LossWords(name, ", ".join(parts))


def _mean_velocity(settings: Settings) -> str:
    """Target of MeanFlow."""
    share = _number(settings.get("diffusion.meanflow.share"))
    omega, kappa = (
        settings.get(f"diffusion.meanflow.{name}", default)
        for name, default in (("omega", 1.0), ("kappa", 0.0))
    )
    guided = "" if (omega, kappa) == (1.0, 0.0) else "guided "
    return f"{guided}mean velocity u(r, t) (MeanFlow, r < t for a share of {share})"


def _times(settings: Settings) -> str:
    kind = settings.get("diffusion.time_density.kind")
    if kind == "logit-normal":
        mean = _number(settings.get("diffusion.time_density.mean"))
        spread = _number(settings.get("diffusion.time_density.std"))
        return f"random times of a logit-normal density (mean {mean}, deviation {spread})"
    return "uniformly random times" if kind == "uniform" else "random times"


def _weight(settings: Settings) -> str:
    kind = settings.get("diffusion.loss_weight.kind")
    if kind == "velocity":
        floor = _number(settings.get("diffusion.loss_weight.floor"))
        return f"that of the velocity (sigma at least {floor})"
    if kind == "adaptive":
        power = _number(settings.get("diffusion.loss_weight.power"))
        return f"its own inverse to the power {power} for each image"
    if kind != "min-snr":
        return ""
    return f"min-SNR (gamma {_number(settings.get('diffusion.loss_weight.gamma'))})"


def _number(value: Any) -> str:
    return f"{value:g}" if isinstance(value, int | float) else "unknown"
