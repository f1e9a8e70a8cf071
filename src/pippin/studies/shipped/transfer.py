# SPDX-License-Identifier: Apache-2.0
"""Studies of transfer (Berrada et al. 2024): positions, noise, data, crops and length of
pre-training, at equal totals of image tokens.

An image at half the resolution has a quarter of the tokens. Conditioning tokens and attention
change the ratio of compute by some percent: every table has parameters and MACs. Questions,
primary metrics and smallest effects are declared here, before any run.
"""

from dataclasses import replace
from typing import Any, NamedTuple

from pippin.config import replace_at
from pippin.data.config import CropConfig
from pippin.denoisers.mmdit.config import mmdit
from pippin.recipes.recipe import Recipe
from pippin.studies.shipped.scales import (
    SEEDS,
    SMALLEST_KID,
    ScaleName,
    class_base,
    text_base,
    without_drift,
)
from pippin.studies.study import Axis, Study
from pippin.training.config import InitConfig, RuleName

LOW_PER_FULL = 4
"""Number of low-resolution images with as many tokens as one high-resolution image."""
OTHER_DATA = "@other-data"
"""Placeholder for ``data.path`` of a start on another data set than that of the arms; replaced by
``--other-data-path`` of `pippin study run`."""
WARMUP = 0.05
"""Share of every stage with learning-rate warm-up, equal for short and long stages."""


class Budget(NamedTuple):
    """Training images of each stage."""

    low: int
    """Images at low resolution (half the side)."""
    high: int
    """Images at high resolution, after the low-resolution stage."""

    @property
    def total(self) -> int:
        """Number of high-resolution images with as many tokens as both stages."""
        return self.high + self.low // LOW_PER_FULL


BUDGETS: dict[ScaleName, Budget] = {
    "demo": Budget(low=20_000, high=5_000),
    "cpu": Budget(low=80_000, high=10_000),
    "gpu-hour": Budget(low=4_000_000, high=500_000),
    "paper": Budget(low=102_400_000, high=25_600_000),
}
LOW_GRID: dict[ScaleName, int] = {"demo": 4, "cpu": 4, "gpu-hour": 4, "paper": 16}
"""Patches a side at the low resolution."""


def resolution_study(scale: ScaleName) -> Study:
    """Positions x noise, and from scratch, at equal totals of image tokens.

    The baseline has the settings that the paper recommends. Training from scratch is run with the
    noise of the baseline, and with the original noise schedule.
    """
    budget = BUDGETS[scale]
    axes = {
        "positions": Axis(
            levels={
                "resampled": {"denoiser.base_grid": LOW_GRID[scale]},
                "extrapolated": {"denoiser.base_grid": None},
            },
            description="the known limits in finer steps, or unit steps beyond the known grid",
        ),
        "noise": Axis(
            levels={"rescaled": {"diffusion.rescale": 2.0}, "kept": {"diffusion.rescale": 1.0}},
            description="SNR / 4, or the low resolution's schedule as it is",
        ),
        "start": starts_axis({"low": ("@low", budget.high), "scratch": (None, budget.total)}),
    }
    arms = {
        f"{positions}-{noise}": {"positions": positions, "noise": noise, "start": "low"}
        for positions in ("resampled", "extrapolated")
        for noise in ("rescaled", "kept")
    }
    for noise in ("rescaled", "kept"):
        name = f"scratch-{noise}"
        arms[name] = {"positions": "resampled", "noise": noise, "start": "scratch"}
    return _study(
        "resolution",
        scale,
        title="From half the side",
        question=(
            "Do resampled positions and a rescaled noise schedule make more of pre-training at "
            "half the side, and does that beat training at the full side on as many tokens?"
        ),
        base=high_resolution_recipe(scale),
        axes=axes,
        combinations=arms,
        starts={"low": low_resolution_start(scale, budget.low)},
    )


def datasets_study(scale: ScaleName) -> Study:
    """Twemoji, then OpenMoji, against OpenMoji alone; at scale ``paper`` ImageNet-22k, then
    ImageNet-1k, against ImageNet-1k alone."""
    if scale == "paper":
        return _datasets_of_the_paper()
    each = BUDGETS[scale].total // 2
    base = high_resolution_recipe(scale)
    twemoji = replace_at(base, "data.art", ("twemoji",))
    return _study(
        "datasets",
        scale,
        title="Pre-training on other images",
        question="Is half of a budget well spent on other images first?",
        base=base,
        axes={"start": starts_axis({"scratch": (None, 2 * each), "pretrained": ("@other", each)})},
        starts={"other": with_budget(twemoji, each)},
    )


def _datasets_of_the_paper() -> Study:
    """ImageNet-22k, then 1k, at 256 pixels and the recipes' budget; the class table of ImageNet-1k
    is initialised again."""
    base = without_drift(class_base("paper"), "paper")
    each = base.train.images // 2
    larger = replace_at(replace_at(base.data, "path", OTHER_DATA), "dataset", "imagenet-22k")
    return _study(
        "datasets",
        "paper",
        title="Pre-training on ImageNet-22k",
        question="Is half of a budget well spent on ImageNet-22k before ImageNet-1k?",
        base=base,
        axes={"start": _data_starts("pretrained", "@other", "classes", each)},
        starts={"other": with_budget(replace(base, data=larger), each)},
    )


def _data_starts(name: str, run: str, rule: RuleName, each: int) -> Axis:
    """The axis with all of the budget from scratch, or its second half after a run on other data.

    Args:
        name: name of the second level.
        run: the start of the second level.
        rule: transfer rule for the differences between the two data sets.
        each: images of each half.
    """
    levels: dict[str, dict[str, Any]] = {
        "scratch": {"init": InitConfig(), "train.images": 2 * each},
        name: {"init": InitConfig(run=run, transfer=(rule,)), "train.images": each},
    }
    for level in levels.values():
        level["train.warmup_images"] = round(WARMUP * level["train.images"])
    return Axis(levels=levels, description="what training starts from")


def class_to_text_study(scale: ScaleName) -> Study:
    """Classes, then captions, against captions alone, on as many images; at scale ``paper``
    ImageNet-1k, then CC12M."""
    base = without_drift(text_base(scale), scale)
    each = (base.train.images if scale == "paper" else BUDGETS[scale].total) // 2
    classes = class_base(scale)
    if scale == "paper":
        classes = replace_at(classes, "data.path", OTHER_DATA)
    else:
        classes = replace(classes, data=base.data)
    return _study(
        "class-to-text",
        scale,
        title="From classes to captions",
        question="Is half of a budget of captions better spent on classes first?",
        base=base,
        axes={"start": _data_starts("from-classes", "@classes", "semantics", each)},
        starts={"classes": with_budget(without_drift(classes, scale), each)},
    )


def cropping_study(scale: ScaleName) -> Study:
    """Preparation of low-resolution images: downscaled full images, local crops, or both."""
    budget = BUDGETS[scale]
    crops = {
        "shrunk": CropConfig(),
        "local": CropConfig(local_share=1.0),
        "mixed": CropConfig(local_share=0.5),
    }
    low = low_resolution_start(scale, budget.low)
    starts = {name: replace_at(low, "data.crop_law", crop) for name, crop in crops.items()}
    base = with_recommended_transfer(high_resolution_recipe(scale), scale)
    return _study(
        "cropping",
        scale,
        title="Crops at low resolution",
        question="Does pre-training on local views beat pre-training on downscaled images?",
        base=base,
        axes={"start": starts_axis({name: (f"@{name}", budget.high) for name in crops})},
        starts=starts,
    )


def pretraining_length_study(scale: ScaleName) -> Study:
    """The share of a budget that is spent at low resolution."""
    budget = BUDGETS[scale]
    shares = {"0": 0.0, "25": 0.25, "50": 0.5, "75": 0.75}
    levels: dict[str, tuple[str | None, int]] = {}
    starts = {}
    for name, share in shares.items():
        low = round(share * budget.total) * LOW_PER_FULL
        levels[f"low-{name}"] = (
            f"@low-{name}" if low else None,
            budget.total - low // LOW_PER_FULL,
        )
        if low:
            starts[f"low-{name}"] = low_resolution_start(scale, low)
    return _study(
        "pretraining-length",
        scale,
        title="Length of pre-training",
        question="Which share of a budget is best spent at half the side?",
        base=with_recommended_transfer(high_resolution_recipe(scale), scale),
        axes={"start": starts_axis(levels)},
        starts=starts,
    )


def _study(name: str, scale: ScaleName, **parts: Any) -> Study:
    return Study(
        name=f"{name}-{scale}",
        seeds=SEEDS[scale],
        primary="KID-efflite0",
        companions=("coverage", "held-out loss"),
        smallest_effect=SMALLEST_KID,
        **parts,
    )


def starts_axis(levels: dict[str, tuple[str | None, int]]) -> Axis:
    """The axis of an arm's initial weights and its remaining training images.

    Args:
        levels: level -> start (None = from scratch) and images.
    """
    return Axis(
        levels={
            name: {
                "init.run": run,
                "train.images": images,
                "train.warmup_images": round(WARMUP * images),
            }
            for name, (run, images) in levels.items()
        },
        description="what training starts from, and how many images then follow",
    )


def with_budget(recipe: Recipe, images: int) -> Recipe:
    """The recipe with a budget of images and the warm-up for it."""
    train = replace(recipe.train, images=images, warmup_images=round(WARMUP * images))
    return replace(recipe, train=train)


def high_resolution_recipe(scale: ScaleName) -> Recipe:
    """The recipe of the high-resolution stage."""
    base = without_drift(class_base(scale), scale)
    if scale == "paper":
        return replace(
            base,
            data=replace(base.data, resolution=512),
            sampling=replace(
                base.sampling,
                control=replace(base.sampling.control, original_size=(512, 512)),
            ),
        )
    denoiser = mmdit("B") if scale == "gpu-hour" else mmdit("tiny")
    return replace(base, denoiser=denoiser)


def low_resolution_start(scale: ScaleName, images: int) -> Recipe:
    """The recipe of low-resolution pre-training."""
    return at_half_resolution(with_budget(high_resolution_recipe(scale), images))


def at_half_resolution(base: Recipe) -> Recipe:
    """The recipe with images at half the resolution; their original sizes are unchanged."""
    return replace(base, data=replace(base.data, resolution=base.data.resolution // 2))


def with_recommended_transfer(high: Recipe, scale: ScaleName) -> Recipe:
    """The recipe with the transfer settings of the paper: positions resampled from the
    low-resolution grid, and rescaled noise."""
    resampled: Recipe = replace_at(high, "denoiser.base_grid", LOW_GRID[scale])
    return replace(resampled, diffusion=replace(high.diffusion, rescale=2.0))
