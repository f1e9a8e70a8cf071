# SPDX-License-Identifier: Apache-2.0
"""Comparison of five denoisers conditioned on classes and on text, everything else equal."""

from collections.abc import Callable
from dataclasses import replace

from pippin.denoisers.config import DenoiserConfig
from pippin.denoisers.dit.config import dit
from pippin.denoisers.mdtv2.config import mdtv2
from pippin.denoisers.mmdit.config import mmdit
from pippin.denoisers.pixart.config import pixart
from pippin.denoisers.unet.config import unet
from pippin.recipes.openmoji import GRID
from pippin.recipes.recipe import Recipe
from pippin.recipes.table import get_recipe
from pippin.studies.shipped.scales import (
    SCALES_WITH_RESULTS,
    SEEDS,
    ScaleName,
    class_base,
    text_base,
)
from pippin.studies.study import Axis, Study

DENOISERS = ("mmdit", "dit", "mdtv2", "pixart", "unet")
CONDITIONINGS = ("disentangled", "entangled")
SD3_LABEL = "attention-modulation"
"""Conditioning on a class in the same way as Stable Diffusion 3's mmDiT on text."""
ARCHITECTURE = "the denoiser; sizes of one name differ in parameters and FLOPs"


def architectures_study(scale: ScaleName) -> Study:
    """Cost and quality of five class-conditional denoisers at one budget, both conditionings."""
    architectures, combinations = {}, {}
    for name in DENOISERS:
        for conditioning in CONDITIONINGS:
            arm = f"{name}-{conditioning}"
            # DiT and MDTv2 have cross-attention only if a condition enters through it.
            architectures[arm] = {"denoiser": class_recipe(scale, name, conditioning).denoiser}
            combinations[arm] = {"architecture": arm, "conditioning": conditioning}
    levels = {
        name: get_recipe(f"openmoji/{DENOISERS[0]}-{name}").conditioning for name in CONDITIONINGS
    }
    if scale not in SCALES_WITH_RESULTS:  # conditioned as SD3 is on text
        arm = f"mmdit-{SD3_LABEL}"
        architectures[arm] = architectures["mmdit-entangled"]
        combinations[arm] = {"architecture": arm, "conditioning": SD3_LABEL}
        levels[SD3_LABEL] = get_recipe(f"openmoji/{arm}").conditioning
    return Study(
        name=f"architectures-{scale}",
        title="Five denoisers, two conditionings",
        question="What does each denoiser cost, and how far does one budget take it?",
        base=class_base(scale),
        axes={
            "architecture": Axis(levels=architectures, description=ARCHITECTURE),
            "conditioning": Axis(
                levels={
                    name: {
                        "conditioning.rules": level.rules,
                        "conditioning.control.low_gate": level.control.low_gate,
                    }
                    for name, level in levels.items()
                },
                description="how class and size enter: class by attention and size under a time "
                "schedule, both by modulation, or class by both and size by modulation",
            ),
        },
        combinations=combinations,
        seeds=SEEDS[scale],
        primary="KID-efflite0",
        companions=("coverage", "held-out loss"),
    )


def text_architectures_study(scale: ScaleName) -> Study:
    """Five denoisers on the same captions, conditioned by attention."""
    recipes = {name: text_recipe(scale, name) for name in DENOISERS}
    return Study(
        name=f"text-architectures-{scale}",
        title="Five denoisers of text",
        question="How far does one budget take each denoiser from captions to images?",
        base=text_base(scale),
        axes={
            "architecture": Axis(
                levels={
                    name: {
                        "denoiser": recipe.denoiser,
                        # The UNet's cross-attention projects tokens by itself.
                        "conditioning.semantic": recipe.conditioning.semantic,
                    }
                    for name, recipe in recipes.items()
                },
                description=ARCHITECTURE,
            ),
        },
        seeds=SEEDS[scale],
        primary="KID-efflite0",
        companions=("caption R@10", "held-out loss"),
    )


def class_recipe(scale: ScaleName, name: str, conditioning: str) -> Recipe:
    """The class-conditional recipe of a denoiser, of the size of the scale."""
    if scale == "paper":
        suffix = "-disentangled" if conditioning == "disentangled" else ""
        return get_recipe(f"paper/{name}-256{suffix}")
    return _at_scale(get_recipe(f"openmoji/{name}-{conditioning}"), scale)


def text_recipe(scale: ScaleName, name: str) -> Recipe:
    """The disentangled text-conditional recipe of a denoiser, of the size of the scale."""
    if scale == "paper":
        return get_recipe(f"paper/cc12m-{name}-256-disentangled")
    return _at_scale(get_recipe(f"openmoji/{name}-disentangled-text"), scale)


def _at_scale(recipe: Recipe, scale: ScaleName) -> Recipe:
    """The recipe at a scale: small denoisers for two CPU cores, size B for a GPU."""
    if scale in ("demo", "cpu"):
        return recipe
    large = _LARGE[recipe.denoiser.kind](getattr(recipe.denoiser, "cross_attention", False))
    width = recipe.denoiser.projected_width
    return replace(recipe, denoiser=large if width is None else large.with_projected_width(width))


_LARGE: dict[str, Callable[[bool], DenoiserConfig]] = {
    "mmdit": lambda crossing: mmdit("B"),
    "dit": lambda crossing: dit("B", qk_norm=True, cross_attention=crossing),
    "mdtv2": lambda crossing: mdtv2("B", GRID, qk_norm=True, cross_attention=crossing),
    "pixart": lambda crossing: pixart("B", qk_norm=True),
    "unet": lambda crossing: unet("B", qk_norm=True),
}
"""Kind -> function from ``cross_attention`` to the configuration."""
