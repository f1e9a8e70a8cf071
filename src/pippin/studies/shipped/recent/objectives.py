# SPDX-License-Identifier: Apache-2.0
"""Objectives of training, with denoiser, data, solver and evaluations equal.

Losses of different objectives are not comparable, so the measure is KID of samples.
"""

from pippin.denoisers.jit.config import X_PREDICTION
from pippin.diffusion.config import DiffusionConfig, UniformTime
from pippin.studies.contrasts import Contrast, difference
from pippin.studies.shipped.recent.base import FLOW, dit_base
from pippin.studies.shipped.scales import SEEDS, SMALLEST_KID, ScaleName
from pippin.studies.study import Axis, Study

OBJECTIVES = {
    "flow": FLOW,
    "eps": DiffusionConfig(schedule="sd", prediction="eps"),
    "v": DiffusionConfig(schedule="sd", prediction="v"),
    "x0-velocity": X_PREDICTION,
    "gvp": DiffusionConfig(schedule="gvp", prediction="v"),
    "flow-uniform": DiffusionConfig(
        schedule="flow", prediction="flow", time_density=UniformTime()
    ),
}
"""Arm -> objective: rectified flow with logit-normal time (SD3), noise (LDM, DiT), v (Salimans &
Ho 2022), x0 with the loss of the velocity (JiT), SiT's variance-preserving path, rectified flow
with uniform time (SiT)."""


def objectives_study(scale: ScaleName) -> Study:
    """What the network predicts, along which path, at which times."""
    return Study(
        name=f"objectives-{scale}",
        title="What a denoiser predicts, and along which path",
        question="Which objective gives the best samples at one budget and 16 evaluations?",
        base=dit_base(scale),
        axes={
            "objective": Axis(
                levels={arm: {"diffusion": one} for arm, one in OBJECTIVES.items()},
                description="prediction, schedule and density of times in training",
            )
        },
        seeds=SEEDS[scale],
        primary="KID-efflite0",
        companions=("coverage", "precision"),
        smallest_effect=SMALLEST_KID,
        contrasts=_contrasts(),
        prediction=(
            "Rectified flow is ahead of the prediction of noise, whose few steps are coarse, and "
            "level with v. Prediction of x0 is behind, because its times are those of pixels: "
            "mostly noise."
        ),
    )


def _contrasts() -> tuple[Contrast, ...]:
    """Each arm against rectified flow with logit-normal time."""
    claims = {
        "eps": ("Prediction of noise has worse samples than rectified flow.", "positive"),
        "v": ("Prediction of v has samples as good as rectified flow.", "none"),
        "x0-velocity": ("Prediction of x0 has worse samples than rectified flow.", "positive"),
        "gvp": ("SiT's variance-preserving path has samples as good as the straight one.", "none"),
        "flow-uniform": ("Uniform times have worse samples than logit-normal ones.", "positive"),
    }
    return tuple(
        difference(
            "flow",
            arm,
            "KID-efflite0",
            name=f"{arm}, KID",
            claim=claim,
            smallest_effect=SMALLEST_KID,
            predicted=predicted,
            role="secondary" if arm in ("gvp", "flow-uniform") else "primary",
        )
        for arm, (claim, predicted) in claims.items()
    )
