# SPDX-License-Identifier: Apache-2.0
"""Studies of control conditioning: semantic path and gate, schedule of the gate, initial weights,
fields, and requested control values (Berrada et al. 2024; declared before any run)."""

from dataclasses import replace

from pippin.conditioning.config import ConstantGate, LinearGate, PowerCosineGate
from pippin.sampling.config import ControlRequest
from pippin.studies.control_axes import (
    COMPANIONS,
    CONTROL_ARMS,
    PRIMARY,
    SMALLEST_DRIFT,
    control_axes,
    with_drift_evaluation,
)
from pippin.studies.scales import (
    SCALES_WITH_RESULTS,
    SEEDS,
    SMALLEST_KID,
    ScaleName,
    class_base,
    correlated_base,
)
from pippin.study.study import Axis, Study


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
    where = "" if scale == "paper" else f", where a picture's size {relation}"
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
            "Are samples closer to clean training pictures when they ask for the values of "
            "training, or for a large, whole and unflipped picture?"
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
