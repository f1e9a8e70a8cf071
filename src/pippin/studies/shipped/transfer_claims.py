# SPDX-License-Identifier: Apache-2.0
"""Two claims about transfer with sufficient power: pre-training for scarce data, and positions.

Kept studies of transfer compared arms by KID, which blur lowers, on five seeds. The claims here
use the held-out loss, which needs no samples, and FD against held-out images. Power at the
smallest effect, from the spread of held-out loss in kept studies: 0.77 for scarce data, 0.85 for
positions.
"""

from dataclasses import replace

from pippin.config import replace_at
from pippin.recipes.recipe import Recipe
from pippin.studies.contrasts import Contrast, difference
from pippin.studies.shipped.scales import ScaleName, class_base, without_drift
from pippin.studies.shipped.transfer import (
    BUDGETS,
    LOW_GRID,
    at_half_resolution,
    high_resolution_recipe,
    starts_axis,
    with_budget,
    with_recommended_transfer,
)
from pippin.studies.study import Axis, Study

SEEDS = (50, 51, 52, 53, 54, 55)
SCARCE = 300
"""Number of images of the target data set, out of 2237."""
SMALLEST_LOSS = 0.005
SMALLEST_POSITIONS = 0.001
"""Smallest difference of held-out loss that matters; kept runs differed by 0.003, not declared."""
SMALLEST_FD = 40.0


def scarce_study(scale: ScaleName) -> Study:
    """All of Twemoji, then 300 images of OpenMoji, against those 300 images alone."""
    each = IMAGES[scale] // 2
    few = replace_at(
        _measured(without_drift(class_base(scale), scale)), "data.max_pictures", SCARCE
    )
    twemoji = replace_at(replace_at(few, "data.art", ("twemoji",)), "data.max_pictures", None)
    start = {"scratch": (None, 2 * each), "pretrained": ("@twemoji", each)}
    return Study(
        name=f"datasets-scarce-{scale}",
        title="Pre-training where target images are scarce",
        question="Is half of a budget well spent on other images where only 300 are available?",
        base=few,
        axes={"start": starts_axis(start)},
        starts={"twemoji": with_budget(twemoji, each)},
        seeds=SEEDS[:1] if scale == "demo" else SEEDS,
        primary="held-out loss",
        companions=("FD-efflite0", "sharpness"),
        smallest_effect=SMALLEST_LOSS,
        contrasts=(
            _decrease("scratch", "pretrained", "held-out loss", SMALLEST_LOSS, PRETRAINING),
            _decrease("scratch", "pretrained", "FD-efflite0", SMALLEST_FD, PRETRAINING),
            _decrease(
                "scratch", "pretrained", "sharpness", None, "Pre-training changes sharpness."
            ),
        ),
        prediction=(
            "Lower held-out loss after pre-training, since 300 images are memorised; FD follows."
        ),
    )


PRETRAINING = "Half of a budget on another data set improves a model of scarce data."
POSITIONS = "Resampled positions transfer better to twice the resolution than extrapolated ones."
IMAGES: dict[ScaleName, int] = {"demo": 10_000, "cpu": 40_000, "gpu-hour": 2_000_000}


def positions_study(scale: ScaleName) -> Study:
    """Positions resampled from the low-resolution grid, or extrapolated; noise rescaled."""
    budget = BUDGETS[scale]
    base = _measured(high_resolution_recipe(scale))
    low = at_half_resolution(with_budget(base, budget.low))
    arms = {"extrapolated": None, "resampled": LOW_GRID[scale]}
    base = with_budget(
        replace_at(with_recommended_transfer(base, scale), "init.run", "@low"), budget.high
    )
    return Study(
        name=f"positions-{scale}",
        title="Positions after pre-training at low resolution",
        question="Should positions known from low resolution be resampled or extrapolated?",
        base=base,
        axes={
            "positions": Axis(
                levels={arm: {"denoiser.base_grid": grid} for arm, grid in arms.items()},
                description="unit steps beyond the known grid, or its limits in finer steps",
            )
        },
        starts={"low": low},
        seeds=SEEDS[:1] if scale == "demo" else SEEDS,
        primary="held-out loss",
        companions=("FD-efflite0", "sharpness"),
        smallest_effect=SMALLEST_POSITIONS,
        contrasts=(
            _decrease("extrapolated", "resampled", "held-out loss", SMALLEST_POSITIONS, POSITIONS),
            replace(
                _decrease("extrapolated", "resampled", "FD-efflite0", SMALLEST_FD, POSITIONS),
                role="secondary",
            ),
        ),
        prediction="Resampled positions lower held-out loss, as in five seeds of `resolution`.",
    )


def _measured(base: Recipe) -> Recipe:
    """The recipe with learning rates read at the middle of steps, FD against held-out images, and
    evaluation noise by training seed."""
    evaluation = replace(
        base.evaluation,
        parts=("held-out", "quality", "real"),
        reference="validation",
        num_samples=5000 if base.evaluation.num_samples > 256 else 1000,
        seed_from_training=True,
    )
    return replace(base, train=replace(base.train, lr_at="middle"), evaluation=evaluation)


def _decrease(
    first: str, second: str, metric: str, smallest: float | None, claim: str
) -> Contrast:
    """A claim that the second arm has a lower metric; without a smallest effect, secondary."""
    return difference(
        first,
        second,
        metric,
        name=f"{second} less {first}, {metric}",
        claim=claim,
        smallest_effect=smallest,
        predicted="negative" if smallest else "open",
        role="primary" if smallest else "secondary",
    )
