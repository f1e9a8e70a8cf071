# SPDX-License-Identifier: Apache-2.0
"""The effect of the control gate on a late and on an early control.

In Berrada et al. 2024 low-level control acts late in sampling. Whether that suits a field depends
on the noise level at which the field is determined, which its control profile shows
(:mod:`pippin.evaluation.control_profile`). Two fields are gated or not, in a 2 x 2 design under
the noise schedule of the paper: film grain, the latest of the fields that the embedded images can
vary, and colour jitter, an early one. The mechanism predicts that the gate preserves the effect of
grain and suppresses that of colour jitter.
"""

from dataclasses import replace

from pippin.conditioning.config import PowerCosineGate
from pippin.data.config import AugmentationConfig, OpenMojiConfig
from pippin.diffusion.config import DiffusionConfig
from pippin.evaluation.metric import MetricKind
from pippin.evaluation.metrics.control import EFFECT, EXCESS_DRIFT, MATCHED_DRIFT
from pippin.studies.scales import ScaleName, class_base
from pippin.study.contrasts import Contrast, ContrastTerm, minus
from pippin.study.study import Axis, Study

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
