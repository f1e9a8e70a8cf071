# SPDX-License-Identifier: Apache-2.0
"""Scales of studies: minutes or hours on two CPU cores, hours on a GPU, or the paper's scale.

The first three use the embedded images and run anywhere; ``paper`` uses the ``paper/`` recipes and
needs their data.
"""

from dataclasses import replace
from typing import Literal, get_args

from pippin.config import ConfigError
from pippin.data.config import OpenMojiConfig
from pippin.denoisers.mmdit.config import mmdit
from pippin.evaluation.config import EvaluationConfig, Part
from pippin.recipes.recipe import Recipe
from pippin.recipes.table import get_recipe

ScaleName = Literal["demo", "cpu", "gpu-hour", "paper"]
SCALES: tuple[ScaleName, ...] = get_args(ScaleName)
SEEDS: dict[ScaleName, tuple[int, ...]] = {
    "demo": (0,),
    "cpu": (0, 1, 2, 3, 4),
    "gpu-hour": (0, 1, 2, 3, 4),
    "paper": (0, 1, 2, 3, 4),
}
"""Training seeds. With fewer, comparisons of several arms are inconclusive:
docs/reference/studies.md has the widths of intervals."""
SMALLEST_KID = 0.5
"""Smallest difference of KID-efflite0 that matters."""
SCALES_WITH_RESULTS: tuple[ScaleName, ...] = ("demo", "cpu")
"""Scales with kept or printed results, whose runs must keep ``lr_at="end"``."""
EVALUATION_PARTS: tuple[Part, ...] = ("held-out", "quality", "drift", "alignment", "real")


def class_base(scale: ScaleName) -> Recipe:
    """Class-conditional disentangled mmDiT: the base recipe of most studies."""
    if scale == "paper":
        return paper_recipe("paper/mmdit-256-disentangled")
    return _embedded(get_recipe("openmoji/mmdit-disentangled"), scale)


def text_base(scale: ScaleName) -> Recipe:
    """Text-conditional disentangled mmDiT."""
    if scale == "paper":
        return paper_recipe("paper/cc12m-mmdit-256-disentangled")
    return _embedded(get_recipe("openmoji/mmdit-disentangled-text"), scale)


def without_drift(recipe: Recipe, scale: ScaleName) -> Recipe:
    """The recipe without evaluation of drift, for studies not about control; at scale ``cpu`` in
    bf16, which is about 1.5 times as fast on CPUs with bf16 instructions."""
    parts = tuple(part for part in recipe.evaluation.parts if part != "drift")
    train = replace(recipe.train, precision="bf16") if scale == "cpu" else recipe.train
    return replace(recipe, train=train, evaluation=replace(recipe.evaluation, parts=parts))


def paper_recipe(name: str) -> Recipe:
    """A recipe of the paper with the evaluation of the other scales: at the end of training only,
    without samples of the untrained model, and in bf16. Otherwise evaluation would cost more than
    training."""
    recipe = get_recipe(name)
    return replace(
        recipe,
        train=replace(recipe.train, validate_every=0, preview_every=0),
        sampling=replace(recipe.sampling, precision="bf16"),
        evaluation=replace(recipe.evaluation, parts=EVALUATION_PARTS),
    )


def _embedded(recipe: Recipe, scale: ScaleName) -> Recipe:
    """A recipe on the embedded images with the budget of a scale."""
    train = replace(recipe.train, preview_every=0)
    if scale in SCALES_WITH_RESULTS:
        train = replace(train, lr_at="end")
    sampling = replace(recipe.sampling, solver="dpm++", steps=16)
    evaluation = EvaluationConfig(parts=EVALUATION_PARTS, num_samples=256, input_size=64)
    if scale == "demo":
        train = replace(train, images=20_000, checkpoint_every=10_000)
    elif scale == "cpu":
        # Patches of 4 give a quarter of the tokens and four times the images per second.
        recipe = replace(recipe, denoiser=mmdit("tiny", patch_size=4))
        train = replace(train, images=40_000, batch_size=64, checkpoint_every=20_000)
    else:
        recipe = replace(recipe, denoiser=mmdit("B"))
        train = replace(
            train, images=2_000_000, batch_size=512, precision="bf16", checkpoint_every=500_000
        )
        evaluation = replace(evaluation, num_samples=5000, input_size=128)
    return replace(recipe, train=train, sampling=sampling, evaluation=evaluation)


def correlated_base(scale: ScaleName, correlation: float) -> Recipe:
    """The class-conditional base with this correlation between original size and class; no effect
    at scale ``paper``, whose data have a fixed correlation."""
    base = class_base(scale)
    return base if scale == "paper" else with_correlation(base, correlation)


def with_correlation(recipe: Recipe, correlation: float) -> Recipe:
    """The recipe on embedded images with this correlation between original size and class.

    Raises:
        ConfigError: other images, whose sizes are fixed.
    """
    if not isinstance(recipe.data, OpenMojiConfig):
        raise ConfigError(
            f"a correlation between size and class ({correlation:g}) can be set for the embedded "
            f"images only, data.kind openmoji; this recipe has data.kind {recipe.data.kind}"
        )
    law = replace(recipe.data.size_law, class_correlation=correlation)
    return replace(recipe, data=replace(recipe.data, size_law=law))
