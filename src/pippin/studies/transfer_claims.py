# SPDX-License-Identifier: Apache-2.0
"""Two claims of transfer where they can be decided: pre-training for scarce data, and positions.

Kept studies of transfer compared arms by KID, which blur lowers, on five seeds. The claims here
rest on the held-out loss, which reads no sample, beside FD against held-out pictures. Power at
the smallest effect, from the spread of held-out loss in kept studies: 0.77 for scarce data, 0.85
for positions.
"""

from dataclasses import replace

from pippin.config import replace_at
from pippin.recipes.recipe import Recipe
from pippin.studies.scales import ScaleName, class_base, lean
from pippin.studies.transfer import (
    BUDGETS,
    LOW_GRID,
    as_advised,
    at_half_the_side,
    full_side,
    stage,
    starts_axis,
)
from pippin.study.contrasts import Contrast, difference
from pippin.study.study import Axis, Study

SEEDS = (50, 51, 52, 53, 54, 55)
SCARCE = 300
"""Pictures of the target data set, of 2237."""
SMALLEST_LOSS = 0.005
SMALLEST_POSITIONS = 0.001
"""Of held-out loss; the kept runs differed by 0.003, which nobody had declared."""
SMALLEST_FD = 40.0


def scarce_study(scale: ScaleName) -> Study:
    """All of Twemoji, then 300 pictures of OpenMoji, against those 300 alone."""
    each = IMAGES[scale] // 2
    few = replace_at(_measured(lean(class_base(scale), scale)), "data.max_pictures", SCARCE)
    twemoji = replace_at(replace_at(few, "data.art", ("twemoji",)), "data.max_pictures", None)
    start = {"scratch": (None, 2 * each), "pretrained": ("@twemoji", each)}
    return Study(
        name=f"datasets-scarce-{scale}",
        title="Pre-training where target images are scarce",
        question="Is half of a budget well spent on other images where only 300 are available?",
        base=few,
        axes={"start": starts_axis(start)},
        starts={"twemoji": stage(twemoji, each)},
        seeds=SEEDS[:1] if scale == "demo" else SEEDS,
        primary="held-out loss",
        companions=("FD-efflite0", "sharpness"),
        smallest_effect=SMALLEST_LOSS,
        contrasts=(
            _less("scratch", "pretrained", "held-out loss", SMALLEST_LOSS, PRETRAINING),
            _less("scratch", "pretrained", "FD-efflite0", SMALLEST_FD, PRETRAINING),
            _less("scratch", "pretrained", "sharpness", None, "Pre-training changes sharpness."),
        ),
        prediction=(
            "Lower held-out loss after pre-training, since 300 images are memorised; FD follows."
        ),
    )


PRETRAINING = "Half of a budget on another data set improves a model of scarce data."
POSITIONS = "Resampled positions transfer better to twice the resolution than extrapolated ones."
IMAGES: dict[ScaleName, int] = {"demo": 10_000, "cpu": 40_000, "gpu-hour": 2_000_000}


def positions_study(scale: ScaleName) -> Study:
    """Positions resampled from the low grid, or extrapolated beyond it; noise rescaled."""
    budget = BUDGETS[scale]
    base = _measured(full_side(scale))
    low = at_half_the_side(stage(base, budget.low))
    arms = {"extrapolated": None, "resampled": LOW_GRID[scale]}
    base = stage(replace_at(as_advised(base, scale), "init.run", "@low"), budget.high)
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
            _less("extrapolated", "resampled", "held-out loss", SMALLEST_POSITIONS, POSITIONS),
            replace(
                _less("extrapolated", "resampled", "FD-efflite0", SMALLEST_FD, POSITIONS),
                role="secondary",
            ),
        ),
        prediction="Resampled positions lower held-out loss, as in five seeds of `resolution`.",
    )


def _measured(base: Recipe) -> Recipe:
    """Rates in the middle of steps, FD against held-out pictures, noise by training seed."""
    evaluation = replace(
        base.evaluation,
        parts=("held-out", "quality", "real"),
        reference="validation",
        num_samples=5000 if base.evaluation.num_samples > 256 else 1000,
        seed_from_training=True,
    )
    return replace(base, train=replace(base.train, lr_at="middle"), evaluation=evaluation)


def _less(first: str, second: str, metric: str, smallest: float | None, claim: str) -> Contrast:
    """A claim that the second arm has less of a metric; without a smallest effect, a companion."""
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
