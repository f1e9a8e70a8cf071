# SPDX-License-Identifier: Apache-2.0
"""Entangled against disentangled conditioning: the studies behind ``pippin demo``.

Training from scratch takes longer than a few minutes, so each arm is initialised from its own
shipped model, all trained under the same budget (docs/reference/models.md).
"""

from dataclasses import replace
from typing import Literal

from pippin.recipes.recipe import Recipe
from pippin.studies.shipped.control import CONTROL_ARMS, ENDS, SMALLEST_DRIFT, control_axes
from pippin.studies.study import Axis, Study

PRIMARY = "excess drift original_size"
COMPANION = "effect original_size"
Budget = Literal["quick", "full"]
STUDY_NAMES: dict[Budget, str] = {"quick": "demo-quick", "full": "demo"}
"""Budget of ``pippin demo`` -> its study."""


def start_axis(models: dict[str, str]) -> Axis:
    """The axis of the initial weights of each arm.

    Args:
        models: arm -> model.
    """
    return Axis(
        levels={arm: {"init.run": model} for arm, model in models.items()},
        description="which weights the arm goes on from: its own, trained under an equal budget",
    )


def demo_study(
    base: Recipe,
    *,
    models: dict[str, str] | None = None,
    seeds: tuple[int, ...] = (0,),
    primary: str = PRIMARY,
    companions: tuple[str, ...] = (COMPANION,),
    smallest_effect: float | None = SMALLEST_DRIFT,
) -> Study:
    """The entangled and the disentangled arm on one base recipe.

    Args:
        base: class-conditional; data, model, budget and sampling of both arms.
        models: initial weights of ``entangled`` and ``disentangled``; None = from the seed.
        seeds: training seeds of both arms.
        primary: the deciding metric.
        companions: metrics to be read with it.
        smallest_effect: smallest effect of the primary metric that matters, in its unit.
    """
    axes = control_axes()
    combinations = {arm: CONTROL_ARMS[arm] for arm in ENDS}
    if models is not None:
        axes["start"] = start_axis(models)
        combinations = {arm: levels | {"start": arm} for arm, levels in combinations.items()}
    return Study(
        name="demo",
        title="Entangled or disentangled conditioning",
        question=(
            "If class and control no longer share the modulation path, does asking for another "
            "image size change the object less, while the size is still obeyed?"
        ),
        base=base,
        axes=axes,
        combinations=combinations,
        seeds=seeds,
        primary=primary,
        companions=companions,
        smallest_effect=smallest_effect,
    )


def quick_demo_study(base: Recipe, *, models: dict[str, str]) -> Study:
    """The same study of a smaller budget, which its page states.

    Args:
        base: as for :func:`demo_study`.
        models: initial weights of ``entangled`` and ``disentangled``.
    """
    study = demo_study(base, models=models)
    config = base.evaluation
    budget = (
        f"Quick budget, the same for both arms: {base.train.images:,} training images, "
        f"{config.num_samples} samples, {config.drift_pairs} pairs of samples for each control. "
        "`pippin demo --budget full` trains and measures on more, in about twice the time."
    )
    return replace(
        study,
        name=STUDY_NAMES["quick"],
        title=f"{study.title}, quick budget",
        question=f"{study.question} {budget}",
    )
