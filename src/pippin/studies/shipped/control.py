# SPDX-License-Identifier: Apache-2.0
"""Studies of control conditioning (Berrada et al. 2024), declared before any run.

Their axes are semantic path and gate, schedule of the gate, initial weights, fields, and requested
control values.

One study measures the drift of the two semantic paths again. The kept study ``control`` found less
drift where semantics enter by attention, as one of three comparisons on five seeds. Here it is the
only primary claim, on more seeds, with separate evaluation noise for every training seed. Power at
the smallest effect, from the spread of those seeds: 0.96.
"""

from dataclasses import replace
from typing import Any

from pippin.conditioning.config import ConstantGate, Gate, LinearGate, PowerCosineGate
from pippin.recipes.recipe import Recipe
from pippin.sampling.config import ControlRequest
from pippin.studies.contrasts import difference
from pippin.studies.shipped.scales import (
    SCALES_WITH_RESULTS,
    SEEDS,
    SMALLEST_KID,
    ScaleName,
    class_base,
    correlated_base,
    without_drift,
)
from pippin.studies.study import Axis, Study

PRIMARY = "matched drift original_size"
COMPANIONS = (
    "excess drift original_size",
    "effect original_size",
    "KID-efflite0",
    "held-out loss",
)
SMALLEST_DRIFT = 0.05
"""Smallest difference of drift that matters, in efflite0-distance, declared before any run: about
half of the distance caused by moving an image by one pixel."""
CONTROL_SCALES = (0.5, 1.0, 2.0, 4.0)
"""Scales of control guidance at which drift and effect are measured: high enough for weakly
responding models to reach half of the real effect."""
SIZES = (24, 48)
"""Further requested sizes of the drift curve, in pixels, for images of 64 pixels."""
CONTROL_ARMS = {
    "entangled": {"path": "modulation", "gate": "constant"},
    "gate-alone": {"path": "modulation", "gate": "scheduled"},
    "attention-alone": {"path": "attention", "gate": "constant"},
    "disentangled": {"path": "attention", "gate": "scheduled"},
}
"""Arm -> level of each axis of :func:`control_axes`: a 2 x 2 design."""
ENDS = ("entangled", "disentangled")
"""The arms without any of the two changes, and with both."""


def control_axes(gate: Gate | None = None) -> dict[str, Axis]:
    """The two changes of Berrada et al. 2024 as axes: semantic path and control gate.

    Args:
        gate: the time schedule of low-level control at the level "scheduled"; None = power-cosine
            with its default alpha.
    """
    path: dict[str, dict[str, Any]] = {
        "modulation": {"conditioning.rules": {"label": "modulation"}},
        "attention": {"conditioning.rules": {"label": "attention"}},
    }
    gates: dict[str, dict[str, Any]] = {
        "constant": {"conditioning.control.low_gate": ConstantGate()},
        "scheduled": {"conditioning.control.low_gate": gate or PowerCosineGate()},
    }
    return {
        "path": Axis(levels=path, description="how the class enters the network"),
        "gate": Axis(levels=gates, description="when low-level control (size) is heard"),
    }


MOST_SEARCHED = 2000
"""Largest number of samples at each guidance scale of the search for the best scale."""


def with_drift_evaluation(base: Recipe) -> Recipe:
    """The base with evaluation of drift against effect and of the best guidance scale."""
    evaluation = replace(
        base.evaluation,
        control_scales=CONTROL_SCALES,
        size_curve=SIZES if base.data.resolution == 64 else (),
        scales=(1.0, 1.5, 2.0, 3.0),
        scale_samples=max(2, min(MOST_SEARCHED, base.evaluation.num_samples // 2)),
    )
    return replace(base, evaluation=evaluation)


def control_study(scale: ScaleName, *, independent: bool = False) -> Study:
    """The 2 x 2 design semantic path x gate; at scales without kept results also SDXL's control.

    Args:
        scale: scale of base and budget.
        independent: whether image sizes are independent of the class; otherwise the class
            determines them, so that there is something to entangle. Has no effect on the data of
            scale ``paper``.
    """
    name = "control-independent" if independent else "control"
    axes, corners = control_axes(), CONTROL_ARMS
    if scale not in SCALES_WITH_RESULTS:
        axes, corners = with_sdxl_style(axes, corners)
    relation = "says nothing of its class" if independent else "is decided by its class"
    where = "" if scale == "paper" else f", where an image's size {relation}"
    return Study(
        name=f"{name}-{scale}",
        title=f"Semantic path and control gate{where}",
        question=(
            "Do semantics by attention and control under a time schedule lower the drift that "
            "asking for another original size causes, at equal effect?"
        ),
        base=with_drift_evaluation(correlated_base(scale, 0.0 if independent else 1.0)),
        axes=axes,
        combinations=corners,
        seeds=SEEDS[scale],
        primary=PRIMARY,
        companions=COMPANIONS,
        smallest_effect=SMALLEST_DRIFT,
    )


def with_sdxl_style(
    axes: dict[str, Axis], corners: dict[str, dict[str, str]]
) -> tuple[dict[str, Axis], dict[str, dict[str, str]]]:
    """The axes and arms with an additional arm: entangled, with control embedded as in SDXL.

    It reads the same fields as all arms, including flips, which SDXL does not have.
    """
    levels = {name: {"conditioning.control.embedding": name} for name in ("per-field", "sdxl")}
    embedding = Axis(
        levels=levels,
        description="numbers in [0, 1] with a perceptron for each field, or raw pixels through "
        "one sinusoid and one perceptron for all (SDXL)",
    )
    arms = {arm: chosen | {"embedding": "per-field"} for arm, chosen in corners.items()}
    arms["sdxl-style"] = corners["entangled"] | {"embedding": "sdxl"}
    return axes | {"embedding": embedding}, arms


def control_gates_study(scale: ScaleName) -> Study:
    """Schedules and alphas of the low-level gate, with semantics by attention."""
    gates = {
        "constant": ConstantGate(),
        "linear": LinearGate(),
        **{f"alpha-{alpha:g}": PowerCosineGate(alpha=alpha) for alpha in (1.0, 2.0, 4.0, 8.0)},
    }
    return _one_axis(
        "control-gates",
        scale,
        title="Schedules of the control gate",
        question="Which gamma, and which alpha, gives the least drift at equal effect?",
        axis="gate",
        levels={name: {"conditioning.control.low_gate": gate} for name, gate in gates.items()},
        description="gamma(t) of low-level control",
    )


def control_init_study(scale: ScaleName) -> Study:
    """Initial weights of the control embeddings' last layers."""
    return _one_axis(
        "control-init",
        scale,
        title="Initial weights of the control embeddings",
        question="Does it matter whether control starts without effect?",
        axis="start",
        levels={name: {"conditioning.control.output_init": name} for name in ("zero", "xavier")},
        description="of each field's output layer",
    )


def control_fields_study(scale: ScaleName) -> Study:
    """Subsets of the control fields that a model reads."""
    every = class_base(scale).conditioning.control
    groups = {
        "all": (every.high, every.low),
        "none": ((), ()),
        "size": ((), ("original_size",)),
        "crop": (("crop_corner", "crop_size"), ()),
        "flip": (("flip",), ()),
    }
    study = _one_axis(
        "control-fields",
        scale,
        correlation=0.0,
        title="Which control fields are read",
        question="What does each field of control do for the quality of samples?",
        axis="fields",
        levels={
            name: {"conditioning.control.high": high, "conditioning.control.low": low}
            for name, (high, low) in groups.items()
        },
        description="fields in the high-level and the low-level group",
    )
    # The arm without fields has no control for guidance.
    evaluation = replace(study.base.evaluation, control_scales=())
    return replace(
        study,
        base=replace(study.base, evaluation=evaluation),
        primary="KID-efflite0",
        companions=("coverage", "held-out loss"),
        smallest_effect=SMALLEST_KID,
    )


def sampling_control_study(scale: ScaleName) -> Study:
    """Requested control values at sampling: the same trained models under other requests."""
    base = class_base(scale)
    large = base.sampling.control
    small = (base.data.resolution // 2,) * 2
    requests = {
        "large": large,
        "small": replace(large, original_size=small),
        "training": ControlRequest(ask="training"),
    }
    study = _one_axis(
        "sampling-control",
        scale,
        correlation=0.0,
        title="What control samples ask for",
        question=(
            "Are samples closer to clean training images when they ask for the values of "
            "training, or for a large, whole and unflipped image?"
        ),
        axis="ask",
        levels={name: {"sampling.control": request} for name, request in requests.items()},
        description="the control values of every sample",
    )
    quality = replace(base.evaluation, parts=("quality", "real"))
    return replace(
        study,
        base=replace(study.base, evaluation=quality),
        primary="KID-efflite0",
        companions=("coverage", "precision", "recall"),
        smallest_effect=SMALLEST_KID,
    )


def _one_axis(
    name: str,
    scale: ScaleName,
    *,
    correlation: float = 1.0,
    title: str,
    question: str,
    axis: str,
    levels: dict[str, dict[str, object]],
    description: str,
) -> Study:
    """A study with one axis on the disentangled base.

    Args:
        name: name of the study without its scale.
        scale: scale of base and budget.
        correlation: correlation between class and original size of the embedded images. For
            questions about the size itself, it must not be determined by the class.
        title, question: of the study.
        axis, levels, description: name, levels and description of the axis.
    """
    return Study(
        name=f"{name}-{scale}",
        title=title,
        question=question,
        base=with_drift_evaluation(correlated_base(scale, correlation)),
        axes={axis: Axis(levels=levels, description=description)},
        seeds=SEEDS[scale],
        primary=PRIMARY,
        companions=COMPANIONS,
        smallest_effect=SMALLEST_DRIFT,
    )


FRESH_SEEDS = (40, 41, 42, 43, 44, 45, 46, 47)
ARMS = ("entangled", "attention-alone")
PAIRS = 128
"""Pairs of samples for each control and scale: twice as many as in ``control``."""


def semantic_path_study(scale: ScaleName) -> Study:
    """Semantics by modulation or by attention; ungated control; the class determines the size."""
    base = without_drift(correlated_base(scale, 1.0), scale)
    evaluation = replace(
        base.evaluation,
        parts=("held-out", "quality", "drift", "real"),
        control_scales=CONTROL_SCALES,
        drift_pairs=PAIRS,
        seed_from_training=True,
    )
    train = replace(base.train, lr_at="middle")
    drift, excess, effect, loss = (
        difference(*ARMS, metric, name=f"attention less modulation, {metric}", claim=claim)
        for metric, claim in {
            "matched drift original_size": "Semantics by attention lower drift at equal effect.",
            "excess drift original_size": "Semantics by attention lower excess drift.",
            "effect original_size": "Semantics by attention change the effect of the size.",
            "held-out loss": "Semantics by attention change the held-out loss.",
        }.items()
    )
    return Study(
        name=f"semantic-path-{scale}",
        title="Drift of the two semantic paths",
        question=(
            "Do semantics by attention lower the drift that asking for another original size "
            "causes, at equal effect, where the class decides the size?"
        ),
        base=replace(base, evaluation=evaluation, train=train),
        axes=control_axes(),
        combinations={arm: CONTROL_ARMS[arm] for arm in ARMS},
        seeds=FRESH_SEEDS[:1] if scale == "demo" else FRESH_SEEDS,
        primary="matched drift original_size",
        companions=("excess drift original_size", "effect original_size", "held-out loss"),
        smallest_effect=SMALLEST_DRIFT,
        contrasts=(
            replace(drift, smallest_effect=SMALLEST_DRIFT, predicted="negative"),
            replace(excess, role="secondary", predicted="negative"),
            replace(effect, role="secondary"),
            replace(loss, role="secondary"),
        ),
        prediction="Less drift by attention, by about 0.07, as in the five seeds of `control`.",
    )
