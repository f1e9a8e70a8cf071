# SPDX-License-Identifier: Apache-2.0
"""Does the best guidance scale move as lambda' = 1 + s (lambda - 1) (Berrada et al. 2024)?"""

from dataclasses import replace

from pippin.studies.scales import SEEDS, ScaleName
from pippin.studies.transfer import BUDGETS, as_advised, full_side, half_side_start, stage
from pippin.study.study import Axis, Study

LAMBDAS = (1.0, 1.5, 2.0, 2.5, 3.0, 4.0)
"""Tried at both resolutions: a grid scaled by the law would bias the fit towards it, because a
fitted scale lies in the middle of those tried where KID hardly depends on it."""
SMALLEST_EFFECT = 0.5
"""Of lambda - 1 for 64 pixels of side."""


def guidance_law_study(scale: ScaleName) -> Study:
    """One pre-training at half the side, gone on with at half the side and at the full side.

    Under the law (lambda* - 1) / side is the same in both arms: a difference within the smallest
    effect supports it, one beyond contradicts it. Were lambda* itself the same, half the side
    would have twice the value.
    """
    budget = BUDGETS[scale]
    base = as_advised(full_side(scale), scale)
    base = replace(base, train=stage(base, budget.high).train)
    samples = 256 if scale in ("demo", "cpu") else 5000
    evaluation = replace(
        base.evaluation,
        parts=("real",),
        num_samples=samples,
        scales=LAMBDAS,
        scale_samples=samples,
    )
    side = base.data.resolution
    return Study(
        name=f"guidance-law-{scale}",
        title="The best guidance scale at half and at the full side",
        question="Is (lambda* - 1) / side the same at both resolutions?",
        base=replace(base, evaluation=evaluation, init=replace(base.init, run="@low")),
        axes={
            "side": Axis(
                levels={
                    "half": {"data.resolution": side // 2, "diffusion.rescale": 1.0},
                    "full": {"data.resolution": side, "diffusion.rescale": 2.0},
                },
                description="of the pictures; the noise follows it",
            )
        },
        starts={"low": half_side_start(scale, budget.low)},
        seeds=SEEDS[scale],
        primary="fitted guidance per 64 px",
        companions=("fitted semantic scale",),
        smallest_effect=SMALLEST_EFFECT,
    )
