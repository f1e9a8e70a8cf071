# SPDX-License-Identifier: Apache-2.0
"""Five denoisers, everything else equal, as small as the demo: of classes and of text."""

from dataclasses import replace

from pippin.evaluation.config import EvaluationConfig
from pippin.recipes.recipe import Recipe
from pippin.recipes.table import get_recipe
from pippin.study.study import Axis, Study

DENOISERS = ("mmdit", "dit", "mdtv2", "pixart", "unet")
CONDITIONINGS = ("disentangled", "entangled")
ARCHITECTURE = (
    "the denoiser, at the size for two processor cores; these sizes differ in parameters and FLOPs"
)


def architectures_study() -> Study:
    """One seed: what each costs and how it does at one budget, not which is best."""
    base = _small(get_recipe(f"openmoji/{DENOISERS[0]}-{CONDITIONINGS[0]}"))
    architectures, combinations = {}, {}
    for denoiser in DENOISERS:
        for conditioning in CONDITIONINGS:
            arm = f"{denoiser}-{conditioning}"
            # DiT and MDTv2 have cross-attention only where something is read through it.
            architectures[arm] = {"denoiser": get_recipe(f"openmoji/{arm}").denoiser}
            combinations[arm] = {"architecture": arm, "conditioning": conditioning}
    levels = {
        name: get_recipe(f"openmoji/{DENOISERS[0]}-{name}").conditioning for name in CONDITIONINGS
    }
    return Study(
        name="architectures",
        title="Five denoisers, two conditionings",
        question="What does each denoiser cost, and how far does one small budget take it?",
        base=base,
        axes={
            "architecture": Axis(
                levels=architectures,
                description=ARCHITECTURE,
            ),
            "conditioning": Axis(
                levels={
                    name: {
                        "conditioning.rules": level.rules,
                        "conditioning.control.low_gate": level.control.low_gate,
                    }
                    for name, level in levels.items()
                },
                description="how class and size enter: class by attention and size under a time "
                "schedule, or both by modulation",
            ),
        },
        combinations=combinations,
        seeds=(0,),
        primary="KID-efflite0",
        companions=("coverage", "held-out loss"),
        reproduce=("pip install pippin", "pippin study run architectures"),
    )


def text_architectures_study() -> Study:
    """One seed: the same captions through all five, read by attention."""
    arms = {name: get_recipe(f"openmoji/{name}-disentangled-text") for name in DENOISERS}
    return Study(
        name="text-architectures",
        title="Five denoisers of text",
        question="How far does one small budget take each denoiser from captions to pictures?",
        base=_small(arms[DENOISERS[0]]),
        axes={
            "architecture": Axis(
                levels={
                    name: {
                        "denoiser": recipe.denoiser,
                        # The UNet's cross-attention projects tokens by itself.
                        "conditioning.semantic": recipe.conditioning.semantic,
                    }
                    for name, recipe in arms.items()
                },
                description=ARCHITECTURE,
            ),
        },
        seeds=(0,),
        primary="KID-efflite0",
        companions=("caption R@10", "held-out loss"),
        reproduce=("pip install 'pippin[text]'", "pippin study run text-architectures"),
    )


def _small(recipe: Recipe) -> Recipe:
    """Minutes an arm, from scratch."""
    return replace(
        recipe,
        train=replace(recipe.train, images=20_000, preview_every=0, checkpoint_every=10_000),
        sampling=replace(recipe.sampling, solver="dpm++", steps=16),
        evaluation=EvaluationConfig(num_samples=400, input_size=64),
    )
