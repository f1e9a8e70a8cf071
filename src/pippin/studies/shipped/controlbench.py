# SPDX-License-Identifier: Apache-2.0
"""ControlBench: any user-supplied conditioner, compared with entangled and disentangled ones.

The embedded images are a benchmark of conditioning: they are rendered from SVG files, so the
same image under two control values is known exactly, and the correlation between original size
and class can be set.
"""

from collections.abc import Mapping

from pippin.conditioning.conditioner import Conditioner, register_conditioner
from pippin.config import ConfigError
from pippin.recipes.recipe import Recipe
from pippin.studies.shipped.control import (
    COMPANIONS,
    CONTROL_ARMS,
    ENDS,
    PRIMARY,
    SMALLEST_DRIFT,
    control_axes,
    with_drift_evaluation,
)
from pippin.studies.shipped.scales import SEEDS, ScaleName, class_base, with_correlation
from pippin.studies.study import Axis, Study

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
    """Entangled, disentangled, and every given conditioner, trained and evaluated in the same way.

    Args:
        conditioners: arm name -> class, see
            :func:`pippin.conditioning.conditioner.register_conditioner`, which is called for each.
            They are built with the disentangled arm's settings and may use or ignore them.
        correlation: correlation between class and original size, 0 to 1.
        scale: scale of base, budget and seeds; demo, cpu or gpu-hour, which use the embedded
            images.
        base: another class-conditional base recipe; None = the scale's.
        seeds: training seeds; empty = the scale's.

    Raises:
        ConfigError: a name that is taken, or images without adjustable correlation.
    """
    for name, kind in conditioners.items():
        if name in ENDS:
            raise ConfigError(f"{name!r} is an arm of ControlBench already; choose another name")
        register_conditioner(name, kind)
    arms = {name: dict(CONTROL_ARMS[name]) for name in ENDS}
    axes = control_axes()
    if conditioners:
        levels = {name: {"conditioning.conditioner": name} for name in (OURS, *conditioners)}
        axes["conditioner"] = Axis(levels=levels, description="which class embeds")
        arms = {name: levels | {"conditioner": OURS} for name, levels in arms.items()}
        arms |= {
            name: CONTROL_ARMS["disentangled"] | {"conditioner": name} for name in conditioners
        }
    return Study(
        name=f"controlbench-{correlation:g}-{scale}",
        title=f"ControlBench, size and class correlated by {correlation:g}",
        question="How much does each way of conditioning drift, when it obeys equally much?",
        base=with_drift_evaluation(with_correlation(base or class_base(scale), correlation)),
        axes=axes,
        combinations=arms,
        seeds=seeds or SEEDS[scale],
        primary=PRIMARY,
        companions=COMPANIONS,
        smallest_effect=SMALLEST_DRIFT,
        reproduce=("pip install .", "see docs/reference/controlbench.md"),
    )
