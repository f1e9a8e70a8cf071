# SPDX-License-Identifier: Apache-2.0
"""Guidance on the same trained models, and a test of its scaling law.

The law is lambda' = 1 + s (lambda - 1) (Berrada et al. 2024).
"""

from dataclasses import replace

from pippin.sampling.config import GuidanceConfig
from pippin.studies.shipped.scales import SEEDS, SMALLEST_KID, ScaleName, correlated_base
from pippin.studies.shipped.transfer import (
    BUDGETS,
    high_resolution_recipe,
    low_resolution_start,
    with_budget,
    with_recommended_transfer,
)
from pippin.studies.study import Axis, Study

LAMBDAS = (1.0, 1.5, 2.0, 3.0, 5.0)
BETAS = (1.0, 1.5, 2.0)
INTERVAL = (-3.0, 3.0)
"""Interval of log-SNR with guidance, for one arm."""


def guidance_study(scale: ScaleName) -> Study:
    """Scales of guidance. Arms differ in sampling only, so each seed is trained once."""
    base = correlated_base(scale, 1.0)
    arms = {
        f"lambda-{lam:g}-beta-{beta:g}": GuidanceConfig(semantic_scale=lam, control_scale=beta)
        for beta in BETAS
        for lam in LAMBDAS
    }
    two = GuidanceConfig(semantic_scale=2.0)
    arms["lambda-2-interval"] = replace(two, log_snr_interval=INTERVAL)
    arms["lambda-2-growing"] = replace(two, semantic_power=4.0)
    arms["lambda-2-keeps-control"] = replace(two, reference="control")
    evaluation = replace(base.evaluation, parts=("quality", "real"))
    return Study(
        name=f"guidance-{scale}",
        title="Guidance with two scales",
        question="Which scales of semantics and of control give the best samples?",
        base=replace(base, evaluation=evaluation),
        axes={
            "guidance": Axis(
                levels={name: {"sampling.guidance": config} for name, config in arms.items()},
                description="lambda of semantics, beta of control; an interval in log-SNR, MDT's "
                "growing scale, and a reference that keeps control",
            )
        },
        seeds=SEEDS[scale],
        primary="KID-efflite0",
        companions=("coverage", "precision", "recall"),
        smallest_effect=SMALLEST_KID,
    )


LAW_LAMBDAS = (1.0, 1.5, 2.0, 2.5, 3.0, 4.0)
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
        scales=LAW_LAMBDAS,
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
