# SPDX-License-Identifier: Apache-2.0
"""MeanFlow against rectified flow at few steps (Geng et al. 2025, arXiv 2505.13447).

Arms of one method differ in the number of steps only, so each method is trained once a seed. A
step of rectified flow takes two evaluations, with and without the class; MeanFlow learns the
guided velocity, and takes one. Both methods see equally many images; MeanFlow's training takes 1.8
times the FLOPs, for the derivative and the guidance of its target.
"""

from dataclasses import replace
from typing import Any

from pippin.denoisers.dit.config import dit
from pippin.recipes.openmoji import MEANFLOW
from pippin.recipes.recipe import Recipe
from pippin.sampling.config import GuidanceConfig
from pippin.studies.contrasts import Contrast
from pippin.studies.shipped.recent.base import (
    FLOW,
    KID,
    SHAPES,
    Claims,
    differences,
    dit_base,
)
from pippin.studies.shipped.scales import SEEDS, SMALLEST_KID, ScaleName
from pippin.studies.study import Axis, Study

FLOW_STEPS = (1, 2, 4, 16)
MEANFLOW_STEPS = (1, 2, 4)


def few_steps_study(scale: ScaleName) -> Study:
    """Samples of one, two and four steps, and of 16 by rectified flow."""
    return Study(
        name=f"few-steps-{scale}",
        title="Samples of one and few steps",
        question="How few steps do samples need if the network learns mean velocities?",
        base=_base(scale),
        axes={
            "method": Axis(
                levels=_levels(),
                description="rectified flow with Euler steps and guidance, or MeanFlow with its "
                "own times, weight and guidance; and the number of steps, of which one takes two "
                "evaluations in rectified flow and one in MeanFlow",
            )
        },
        seeds=SEEDS[scale],
        primary=KID,
        companions=("coverage", "sampling MACs"),
        smallest_effect=SMALLEST_KID,
        contrasts=_contrasts(),
        prediction=(
            "One step of MeanFlow is much better than one Euler step of rectified flow, and worse "
            "than 16 of them: training is short, and the target of MeanFlow depends on what the "
            "network has learnt."
        ),
    )


def _base(scale: ScaleName) -> Recipe:
    """DiT that reads times of [0, 1], as MeanFlow's network does."""
    base = dit_base(scale)
    size, patch_size = SHAPES[scale]
    return replace(
        base,
        denoiser=dit(size, patch_size=patch_size, cross_attention=True, time_input="data"),
        sampling=replace(base.sampling, solver="euler"),
    )


def _levels() -> dict[str, dict[str, Any]]:
    """Arm -> settings."""
    flow = {
        "diffusion": FLOW,
        "conditioning.interval": False,
        "sampling.solver": "euler",
        "sampling.guidance": GuidanceConfig(semantic_scale=2.0),
    }
    meanflow = {
        "diffusion": MEANFLOW,
        "conditioning.interval": True,
        "sampling.solver": "meanflow",
        "sampling.guidance": GuidanceConfig(),
    }
    return {f"flow-{n}": flow | {"sampling.steps": n} for n in FLOW_STEPS} | {
        f"meanflow-{n}": meanflow | {"sampling.steps": n} for n in MEANFLOW_STEPS
    }


def _contrasts() -> tuple[Contrast, ...]:
    claims: Claims = {
        ("flow-1", "meanflow-1"): (
            "One step of MeanFlow is better than one Euler step of rectified flow.",
            "negative",
        ),
        ("flow-2", "meanflow-4"): (
            "At four evaluations, MeanFlow is better than rectified flow.",
            "negative",
        ),
        ("flow-16", "meanflow-1"): (
            "One step of MeanFlow is worse than 16 Euler steps of rectified flow.",
            "positive",
        ),
    }
    return tuple(differences(KID, claims, primary=claims.keys()))
