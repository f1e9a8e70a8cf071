# SPDX-License-Identifier: Apache-2.0
"""ControlBench: any user-supplied conditioner, beside the two that the method compares.

The embedded pictures are a benchmark of conditioning: they are drawings, so the same picture under
two control values is known exactly, and a dial ties original size to class as hard as wanted.
"""

from collections.abc import Mapping

from pippin.conditioning.conditioner import Conditioner
from pippin.conditioning.registry import register_conditioner
from pippin.config import ConfigError
from pippin.recipes.recipe import Recipe
from pippin.studies.corners import (
    COMPANIONS,
    CORNERS,
    ENDS,
    PRIMARY,
    SMALLEST_DRIFT,
    control_axes,
    measured,
)
from pippin.studies.scales import SEEDS, ScaleName, class_base, with_correlation
from pippin.study.study import Axis, Study

OURS = "pippin"
"""The conditioner of the package."""


def controlbench_study(
    conditioners: Mapping[str, type[Conditioner]],
    *,
    correlation: float = 1.0,
    scale: ScaleName = "demo",
    base: Recipe | None = None,
    seeds: tuple[int, ...] = (),
) -> Study:
    """Entangled, disentangled, and every conditioner given, trained and measured alike.

    Args:
        conditioners: arm name -> class, see
            :func:`pippin.conditioning.registry.register_conditioner`, which is called for each.
            They are built with the disentangled arm's settings and may read or ignore them.
        correlation: the dial between class and original size, 0 to 1.
        scale: of base, budget and seeds; demo, cpu or gpu-hour, which have the embedded pictures.
        base: another recipe of classes to depart from.
        seeds: training seeds; none given = the scale's.

    Raises:
        ConfigError: a name that is taken, or pictures without the dial.
    """
    for name, kind in conditioners.items():
        if name in ENDS:
            raise ConfigError(f"{name!r} is an arm of ControlBench already; choose another name")
        register_conditioner(name, kind)
    arms = {name: dict(CORNERS[name]) for name in ENDS}
    axes = control_axes()
    if conditioners:
        levels = {name: {"conditioning.conditioner": name} for name in (OURS, *conditioners)}
        axes["conditioner"] = Axis(levels=levels, description="which class embeds")
        arms = {name: levels | {"conditioner": OURS} for name, levels in arms.items()}
        arms |= {name: CORNERS["disentangled"] | {"conditioner": name} for name in conditioners}
    return Study(
        name=f"controlbench-{correlation:g}-{scale}",
        title=f"ControlBench, size and class correlated by {correlation:g}",
        question="How much does each way of conditioning drift, when it obeys equally much?",
        base=measured(with_correlation(base or class_base(scale), correlation)),
        axes=axes,
        combinations=arms,
        seeds=seeds or SEEDS[scale],
        primary=PRIMARY,
        companions=COMPANIONS,
        smallest_effect=SMALLEST_DRIFT,
        reproduce=("pip install .", "see docs/reference/controlbench.md"),
    )
