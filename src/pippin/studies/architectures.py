# SPDX-License-Identifier: Apache-2.0
"""Five denoisers, everything else equal: of classes and of text."""

from collections.abc import Callable
from dataclasses import replace

from pippin.denoisers.config import DenoiserConfig, UNetConfig, dit, mdtv2, mmdit, pixart, unet
from pippin.recipes.openmoji import GRID
from pippin.recipes.recipe import Recipe
from pippin.recipes.table import get_recipe
from pippin.studies.scales import KEPT, SEEDS, ScaleName, class_base, text_base
from pippin.study.study import Axis, Study

DENOISERS = ("mmdit", "dit", "mdtv2", "pixart", "unet")
CONDITIONINGS = ("disentangled", "entangled")
SD3_LABEL = "attention-modulation"
"""A class read as Stable Diffusion 3's mmDiT reads text."""
ARCHITECTURE = "the denoiser; sizes of one name differ in parameters and FLOPs"


def architectures_study(scale: ScaleName) -> Study:
    """What each costs, and how far one budget takes it under both conditionings."""
    architectures, combinations = {}, {}
    for name in DENOISERS:
        for conditioning in CONDITIONINGS:
            arm = f"{name}-{conditioning}"
            # DiT and MDTv2 have cross-attention only where something is read through it.
            architectures[arm] = {"denoiser": of_classes(scale, name, conditioning).denoiser}
            combinations[arm] = {"architecture": arm, "conditioning": conditioning}
    levels = {
        name: get_recipe(f"openmoji/{DENOISERS[0]}-{name}").conditioning for name in CONDITIONINGS
    }
    if scale not in KEPT:  # as SD3 reads text
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
    """The same captions through all five, read by attention."""
    recipes = {name: of_text(scale, name) for name in DENOISERS}
    return Study(
        name=f"text-architectures-{scale}",
        title="Five denoisers of text",
        question="How far does one budget take each denoiser from captions to pictures?",
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


def of_classes(scale: ScaleName, name: str, conditioning: str) -> Recipe:
    """A denoiser's recipe by class, of the size of the scale."""
    if scale == "paper":
        suffix = "-disentangled" if conditioning == "disentangled" else ""
        return get_recipe(f"paper/{name}-256{suffix}")
    return _sized(get_recipe(f"openmoji/{name}-{conditioning}"), scale)


def of_text(scale: ScaleName, name: str) -> Recipe:
    """A denoiser's disentangled recipe by text, of the size of the scale."""
    if scale == "paper":
        return get_recipe(f"paper/cc12m-{name}-256-disentangled")
    return _sized(get_recipe(f"openmoji/{name}-disentangled-text"), scale)


def _sized(recipe: Recipe, scale: ScaleName) -> Recipe:
    """On two cores the small denoisers of the recipes; on a card those of size B."""
    if scale in ("demo", "cpu"):
        return recipe
    large = _LARGE[recipe.denoiser.kind](getattr(recipe.denoiser, "cross_attention", False))
    if isinstance(large, UNetConfig) and isinstance(recipe.denoiser, UNetConfig):
        large = replace(large, token_width=recipe.denoiser.token_width)
    return replace(recipe, denoiser=large)


_LARGE: dict[str, Callable[[bool], DenoiserConfig]] = {
    "mmdit": lambda crossing: mmdit("B"),
    "dit": lambda crossing: dit("B", qk_norm=True, cross_attention=crossing),
    "mdtv2": lambda crossing: mdtv2("B", GRID, qk_norm=True, cross_attention=crossing),
    "pixart": lambda crossing: pixart("B", qk_norm=True),
    "unet": lambda crossing: unet("B", qk_norm=True),
}
"""Kind -> whether tokens need a cross-attention -> configuration."""
