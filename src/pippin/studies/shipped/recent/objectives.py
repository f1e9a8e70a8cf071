# SPDX-License-Identifier: Apache-2.0
"""Objectives of training, with denoiser, data, solver and evaluations equal.

Losses of different objectives are not comparable, so the measure is KID of samples. Paired
differences of KID vary by 0.5 to 1.3 between seeds in kept studies at scale ``cpu``. At 0.8, five
seeds decide a difference of 2.5 nearly always, and one of 0.5 in a tenth of the cases.
"""

from pippin.denoisers.jit.config import X_PREDICTION
from pippin.diffusion.config import DiffusionConfig, UniformTime
from pippin.studies.contrasts import Contrast
from pippin.studies.shipped.recent.base import FLOW, KID, Claims, differences, dit_base
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
        question="Which objective gives the best guided samples at equal images and evaluations?",
        base=dit_base(scale),
        axes={
            "objective": Axis(
                levels={arm: {"diffusion": one} for arm, one in OBJECTIVES.items()},
                description="prediction, schedule and density of times in training",
            )
        },
        seeds=SEEDS[scale],
        primary=KID,
        companions=("coverage", "precision"),
        smallest_effect=SMALLEST_KID,
        contrasts=_contrasts(),
        prediction=(
            "Rectified flow is ahead of the prediction of noise, whose few steps are coarse, and "
            "level with v. JiT's objective is behind, because its times are those of pixels: "
            "mostly noise."
        ),
    )


def _contrasts() -> tuple[Contrast, ...]:
    """Each objective against rectified flow with logit-normal time; SiT's path, which has uniform
    times, against rectified flow with uniform time."""
    claims: Claims = {
        ("flow", "eps"): (
            "Noise prediction on Stable Diffusion's schedule has worse samples than rectified "
            "flow.",
            "positive",
        ),
        ("flow", "x0-velocity"): (
            "JiT's objective for pixels has worse samples of latents than rectified flow.",
            "positive",
        ),
        ("flow", "v"): (
            "v-prediction on Stable Diffusion's schedule has samples as good as rectified flow.",
            "none",
        ),
        ("flow-uniform", "gvp"): (
            "At uniform times, SiT's variance-preserving path has samples as good as the straight "
            "one.",
            "none",
        ),
        ("flow", "flow-uniform"): (
            "Uniform times have worse samples than logit-normal ones.",
            "positive",
        ),
    }
    return tuple(differences(KID, claims, primary=[("flow", "eps"), ("flow", "x0-velocity")]))
