# SPDX-License-Identifier: Apache-2.0
"""Effect of the control gate, on quality, on drift, on a late and on an early control.

The studies of quality and of drift ask what earlier studies could not decide. Both follow the
paper's protocol (schedule ``sd``, noise prediction, uniform times), under which the power-cosine
gate opens earlier than under rectified flow. Original size and class have a correlation of 0.7:
the size is neither a function of the class, nor independent of it.

In Berrada et al. 2024 low-level control acts late in sampling. Whether that suits a field depends
on the noise level at which the field is determined, which its control profile shows
(:mod:`pippin.evaluation.metrics.control_profile`). Two fields are gated or not, in a 2 x 2 design
under the noise schedule of the paper: film grain, the latest of the fields that the embedded
images can vary, and colour jitter, an early one. The mechanism predicts that the gate preserves
the effect of grain and suppresses that of colour jitter.
"""

from collections.abc import Mapping
from dataclasses import replace

from pippin.conditioning.config import ConstantGate, Gate, PowerCosineGate
from pippin.data.config import AugmentationConfig, OpenMojiConfig
from pippin.diffusion.config import DiffusionConfig
from pippin.evaluation.metric import MetricKind
from pippin.evaluation.metrics.declared.drift import EFFECT, EXCESS_DRIFT, MATCHED_DRIFT
from pippin.recipes.recipe import Recipe
from pippin.studies.contrasts import Contrast, ContrastTerm, linear, main_effect, minus
from pippin.studies.shipped.control import CONTROL_ARMS, control_axes
from pippin.studies.shipped.scales import ScaleName, class_base, correlated_base
from pippin.studies.study import Axis, Study

CORRELATION = 0.7
SEEDS = (30, 31, 32, 33, 34, 35, 36, 37)
REQUESTS = (24, 48, 96, 256)
"""Requested original sizes of samples, in pixels, for images of 64 pixels."""
SMALLEST_FD = 40.0
ALPHAS = (0.5, 1.0, 2.0, 4.0)
SMALLEST_DRIFT = 0.03
"""Smallest difference of matched drift that matters, over all gates."""
LONG: dict[ScaleName, int] = {"demo": 10_000, "cpu": 320_000, "gpu-hour": 2_000_000}
"""Training images after which the size has half of its real effect under every gate."""


def gate_quality_study(scale: ScaleName) -> Study:
    """Semantic path x gate, and a model that does not read the size, each at its best request.

    FD falls where samples are blurred, and a gated model ignores requests for a large size. At a
    single requested size the gate therefore seems to improve quality.
    """
    base = _base(scale, 40_000 if scale == "cpu" else LONG[scale])
    evaluation = replace(
        base.evaluation,
        parts=("held-out", "quality", "real"),
        num_samples=5000 if scale == "gpu-hour" else 1000,
        requests=REQUESTS,
        scales=(1.0, 2.0),
        scale_samples=256,
        seed_from_training=True,
    )
    sizes = {"read": ("original_size",), "not-read": ()}
    arms = {name: levels | {"size": "read"} for name, levels in CONTROL_ARMS.items()}
    axes = control_axes() | {
        "size": Axis(
            levels={name: {"conditioning.control.low": low} for name, low in sizes.items()},
            description="whether the original size is read at all",
        )
    }
    no_size = {"no-size": {"path": "attention", "gate": "constant", "size": "not-read"}}
    return Study(
        name=f"gate-quality-{scale}",
        title="The control gate and quality, each arm at its best request",
        question="Does the gate improve samples where every arm asks for the size that suits it?",
        base=replace(base, evaluation=evaluation),
        axes=axes,
        combinations=arms | no_size,
        seeds=SEEDS[:1] if scale == "demo" else SEEDS,
        primary="FD-efflite0 at best request",
        companions=("KID-efflite0 at best request", "sharpness at best request", "held-out loss"),
        smallest_effect=SMALLEST_FD,
        contrasts=_quality_contrasts(arms),
        prediction="No difference that matters: what the gate seemed to gain was blur.",
    )


def _quality_contrasts(arms: Mapping[str, Mapping[str, str]]) -> tuple[Contrast, ...]:
    """Main effects of gate and path on the Frechet distance at each arm's best request."""
    effects = (
        ("gate", "constant", "scheduled", "The gate improves quality."),
        ("path", "modulation", "attention", "Semantics by attention improve quality."),
    )
    metric = "FD-efflite0 at best request"
    return tuple(
        main_effect(
            arms,
            axis,
            low,
            high,
            metric,
            name=axis,
            claim=claim,
            smallest_effect=SMALLEST_FD,
            predicted="negative",
        )
        for axis, low, high, claim in effects
    )


def gate_drift_study(scale: ScaleName) -> Study:
    """Drift at equal effect along alpha, trained until the size has an effect under every gate."""
    gates: dict[str, Gate] = {"constant": ConstantGate()}
    gates |= {f"alpha-{alpha:g}": PowerCosineGate(alpha=alpha) for alpha in ALPHAS}
    base = _base(scale, LONG[scale])
    evaluation = replace(
        base.evaluation,
        parts=("held-out", "drift", "control-profile", "real"),
        control_scales=(0.5, 1.0, 2.0, 4.0),
        seed_from_training=True,
    )
    return Study(
        name=f"gate-drift-{scale}",
        title="The control gate and drift at equal effect",
        question="Does a gate that opens later lower the drift that another size causes?",
        base=replace(base, evaluation=evaluation),
        axes={
            "gate": Axis(
                levels={
                    name: {"conditioning.control.low_gate": gate} for name, gate in gates.items()
                },
                description="gamma(t) of the original size",
            )
        },
        seeds=SEEDS[:1] if scale == "demo" else SEEDS[:6],
        primary="matched drift original_size",
        companions=("effect original_size", "held-out loss"),
        smallest_effect=SMALLEST_DRIFT,
        contrasts=(_trend(tuple(gates)),),
        prediction=(
            "Drift at equal effect does not fall with alpha. Where the size is decided, near "
            "log-SNR -2, a later gate leaves less of it, and more guidance has to make up for it."
        ),
    )


def _trend(arms: tuple[str, ...]) -> Contrast:
    """The slope of matched drift along alpha; a constant gate is alpha 0."""
    return linear(
        arms,
        "matched drift original_size",
        (0.0, *ALPHAS),
        name="slope along alpha",
        claim="A gate that opens later lowers drift at equal effect.",
        smallest_effect=SMALLEST_DRIFT / ALPHAS[-1],
        predicted="negative",
    )


def _base(scale: ScaleName, images: int) -> Recipe:
    """Class-conditional mmDiT under the paper's protocol."""
    base = correlated_base(scale, CORRELATION)
    precision = base.train.precision if scale == "demo" else "bf16"
    return replace(
        base,
        diffusion=DiffusionConfig(),
        train=replace(base.train, images=images, precision=precision, lr_at="middle"),
        sampling=replace(base.sampling, precision=precision),
    )


EARLY, LATE = "colour_jitter", "grain"
ALWAYS = ("original_size", "crop_corner", "crop_size", "flip")
"""Fields that every arm reads without a gate."""
GATED: dict[str, tuple[str, ...]] = {
    "none": (),
    "late": (LATE,),
    "early": (EARLY,),
    "both": (LATE, EARLY),
}
"""Arm -> the fields under the gate."""
SMALLEST_SHARE = 0.15
"""Smallest difference of a control's effect that matters, as a share of real pairs' effect."""
LOOK = AugmentationConfig(grain_share=0.75, grain_largest=48.0, colour_jitter=0.6)
IMAGES: dict[ScaleName, int] = {"demo": 10_000, "cpu": 40_000, "gpu-hour": 2_000_000}


def late_control_study(scale: ScaleName) -> Study:
    """Gate on a late control x gate on an early control."""
    base = class_base(scale)
    assert isinstance(base.data, OpenMojiConfig)
    train = replace(base.train, images=IMAGES[scale], precision="bf16", lr_at="middle")
    evaluation = replace(
        base.evaluation,
        parts=("held-out", "control-profile", "drift", "quality", "real"),
        control_scales=(1.0, 2.0, 4.0),
        scaled_controls=(LATE, EARLY),
        matched_share=0.25,
    )
    base = replace(
        base,
        data=replace(base.data, look=LOOK),
        diffusion=DiffusionConfig(schedule="sd", prediction="eps"),
        train=train,
        evaluation=evaluation,
    )
    return Study(
        name=f"late-control-{scale}",
        title="The control gate on a late and on an early control",
        question=(
            "Does a gate that opens late leave a late control (grain) as it is, and mute an early "
            "one (brightness)?"
        ),
        base=base,
        axes={
            "gated": Axis(levels=_levels(scale), description="which fields the gate holds back")
        },
        seeds=(10,) if scale == "demo" else (10, 11, 12, 13, 14, 15),
        primary=f"effect {LATE}",
        companions=(
            f"matched drift {LATE}",
            f"effect {EARLY}",
            f"matched drift {EARLY}",
            "held-out loss",
        ),
        contrasts=_contrasts(),
        prediction=(
            "One pilot seed of either arm suggests that the gate mutes brightness altogether and "
            "takes more than half of grain's effect too: the first claim would then not be "
            "supported, the second supported."
        ),
    )


def _levels(scale: ScaleName) -> dict[str, dict[str, object]]:
    control, fields = class_base(scale).conditioning.control, (LATE, EARLY)
    return {
        arm: {
            "conditioning.control": replace(
                control,
                high=(*ALWAYS, *(field for field in fields if field not in gated)),
                low=gated,
                low_gate=PowerCosineGate(),
            )
        }
        for arm, gated in GATED.items()
    }


def _gate_effect(field: str, kind: MetricKind) -> tuple[ContrastTerm, ...]:
    """Terms of the main effect: mean over arms with the field gated - mean over the other arms."""
    metric = kind(control=field).name
    return tuple(
        ContrastTerm(arm=arm, metric=metric, weight=0.5 if field in gated else -0.5)
        for arm, gated in GATED.items()
    )


def _contrasts() -> tuple[Contrast, ...]:
    late = Contrast(
        name="gate on late, effect",
        claim="The gate leaves the effect of a late control as it is.",
        terms=_gate_effect(LATE, EFFECT),
        scale="share of real",
        smallest_effect=SMALLEST_SHARE,
        predicted="none",
    )
    early = Contrast(
        name="gate on early, effect",
        claim="The gate mutes an early control.",
        terms=_gate_effect(EARLY, EFFECT),
        scale="share of real",
        smallest_effect=SMALLEST_SHARE,
        predicted="negative",
    )
    spared = minus(
        late,
        early,
        name="late less early, effect",
        claim="The gate takes less from a late control than from an early one.",
        scale="share of real",
        smallest_effect=SMALLEST_SHARE,
        predicted="positive",
    )
    drifts = [
        Contrast(
            name=f"gate on {field}, {words}",
            claim=f"The gate lowers the {words} of {field}.",
            terms=_gate_effect(field, kind),
            role="secondary",
            predicted="negative",
        )
        for field in (LATE, EARLY)
        for words, kind in (("matched drift", MATCHED_DRIFT), ("excess drift", EXCESS_DRIFT))
    ]
    loss = Contrast(
        name="gate on either, held-out loss",
        claim="The gate costs no held-out loss.",
        terms=tuple(
            ContrastTerm(arm=arm, metric="held-out loss", weight=weight)
            for arm, weight in {"none": -1.0, "both": 1.0}.items()
        ),
        role="secondary",
    )
    return (late, early, spared, *drifts, loss)
