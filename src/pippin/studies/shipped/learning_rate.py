# SPDX-License-Identifier: Apache-2.0
"""Adam's learning rate: that of the recipes (for the paper's), that of DiT, and twice the first.

The rate at batch 2048 is unconfirmed: 1e-3 is our reading of section 3.1 of Berrada et al. 2024
(:data:`pippin.recipes.paper.LEARNING_RATE`). This study measures its influence.
"""

from dataclasses import replace

from pippin.diffusion.config import DiffusionConfig
from pippin.recipes.recipe import Recipe
from pippin.studies.shipped.scales import SEEDS, SMALLEST_KID, ScaleName, class_base, without_drift
from pippin.studies.study import Axis, Study

RATES = {"1e-3": 1e-3, "1e-4": 1e-4, "2e-3": 2e-3}
"""The rate of the recipes, that of DiT, and twice that of the recipes."""


def learning_rate_study(scale: ScaleName) -> Study:
    """Three constant rates of Adam at one batch; a run that diverges is a result."""
    return Study(
        name=f"learning-rate-{scale}",
        title="Learning rate",
        question="Is a constant rate of 1e-3 better than 1e-4, and does twice as much diverge?",
        base=adam_only(without_drift(class_base(scale), scale), scale),
        axes={
            "rate": Axis(
                levels={name: {"train.learning_rate": rate} for name, rate in RATES.items()},
                description="constant learning rate of Adam, at equal batch and budget",
            )
        },
        seeds=SEEDS[scale],
        primary="KID-efflite0",
        companions=("coverage", "held-out loss"),
        smallest_effect=SMALLEST_KID,
    )


def adam_only(base: Recipe, scale: ScaleName) -> Recipe:
    """The recipe with optimizer and objective of the common protocol: Adam at a constant rate,
    noise prediction, uniform times. The recipes of scale ``paper`` already have both."""
    if scale == "paper":
        return base
    train = replace(base.train, muon_learning_rate=None, decay_share=0.0, warmup_images=0)
    return replace(base, train=train, diffusion=DiffusionConfig(schedule="sd", prediction="eps"))
