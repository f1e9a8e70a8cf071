# SPDX-License-Identifier: Apache-2.0
"""Test of the guidance scaling lambda' = 1 + s (lambda - 1) (Berrada et al. 2024)."""

from dataclasses import replace

from pippin.studies.scales import SEEDS, ScaleName
from pippin.studies.transfer import (
    BUDGETS,
    high_resolution_recipe,
    low_resolution_start,
    with_budget,
    with_recommended_transfer,
)
from pippin.study.study import Axis, Study

LAMBDAS = (1.0, 1.5, 2.0, 2.5, 3.0, 4.0)
"""Scales tried at both resolutions. A grid that follows the formula would bias the fit towards it:
where KID hardly depends on the scale, the fitted scale lies in the middle of the grid."""
SMALLEST_EFFECT = 0.5
"""Smallest difference of lambda - 1, per 64 pixels of side, that matters."""


def guidance_law_study(scale: ScaleName) -> Study:
    """One low-resolution pre-training, continued at low and at high resolution.

    Under the formula, (lambda* - 1) / side is the same in both arms: a difference within the
    smallest effect supports it, a larger one contradicts it. If lambda* itself were the same, the
    low resolution would have twice the value.
    """
    budget = BUDGETS[scale]
    base = with_recommended_transfer(high_resolution_recipe(scale), scale)
    base = replace(base, train=with_budget(base, budget.high).train)
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
        starts={"low": low_resolution_start(scale, budget.low)},
        seeds=SEEDS[scale],
        primary="fitted guidance per 64 px",
        companions=("fitted semantic scale",),
        smallest_effect=SMALLEST_EFFECT,
    )
