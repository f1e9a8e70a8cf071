# SPDX-License-Identifier: Apache-2.0
"""Entangled against disentangled conditioning: the study behind ``pippin demo``.

Minutes are too short to learn to draw from nothing, so each arm goes on from a shipped model of
its own, trained before under the same budget (docs/reference/models.md).
"""

from pippin.recipes.recipe import Recipe
from pippin.studies.corners import CORNERS, ENDS, SMALLEST_DRIFT, control_axes
from pippin.study.study import Axis, Study

PRIMARY = "excess drift original_size"
COMPANION = "effect original_size"


def start_axis(models: dict[str, str]) -> Axis:
    """Which trained weights an arm goes on from: arm -> model."""
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
    """The two corners of path x gate on one base recipe.

    Args:
        base: class-conditional; data, model, budget and sampling of both arms.
        models: what ``entangled`` and ``disentangled`` go on from; None = both from their seed.
        seeds: training seeds of both arms.
        primary: the metric that decides.
        companions: metrics to be read beside it.
        smallest_effect: of the primary metric, in its unit.
    """
    axes = control_axes()
    combinations = {arm: CORNERS[arm] for arm in ENDS}
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
