# SPDX-License-Identifier: Apache-2.0
"""The same studies at four scales: minutes and hours of two cores, hours of a card, the paper.

The first three run on the embedded pictures, anywhere; ``paper`` is built from the ``paper/``
recipes and needs their data.
"""

from dataclasses import replace
from typing import Literal, get_args

from pippin.config import ConfigError
from pippin.data.config import OpenMojiConfig
from pippin.denoisers.config import mmdit
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
"""Fewer decide nothing where several arms are compared: docs/reference/studies.md has widths."""
SMALLEST_KID = 0.5
"""Smallest difference of KID-efflite0 that matters."""
KEPT: tuple[ScaleName, ...] = ("demo", "cpu")
"""Scales with results that are kept or printed: their runs read learning rates as those did."""
MEASURED: tuple[Part, ...] = ("held-out", "quality", "drift", "alignment", "real")


def class_base(scale: ScaleName) -> Recipe:
    """mmDiT of classes, disentangled: what the arms of a study depart from."""
    if scale == "paper":
        return of_the_paper("paper/mmdit-256-disentangled")
    return _embedded(get_recipe("openmoji/mmdit-disentangled"), scale)


def text_base(scale: ScaleName) -> Recipe:
    """mmDiT of text, disentangled."""
    if scale == "paper":
        return of_the_paper("paper/cc12m-mmdit-256-disentangled")
    return _embedded(get_recipe("openmoji/mmdit-disentangled-text"), scale)


def lean(recipe: Recipe, scale: ScaleName) -> Recipe:
    """The recipe for a question that is not of control: without drift, and at scale ``cpu`` in
    bf16, about 1.5 times as fast where the CPU multiplies in it."""
    parts = tuple(part for part in recipe.evaluation.parts if part != "drift")
    train = replace(recipe.train, precision="bf16") if scale == "cpu" else recipe.train
    return replace(recipe, train=train, evaluation=replace(recipe.evaluation, parts=parts))


def of_the_paper(name: str) -> Recipe:
    """A recipe measured as at the other scales, at its end and without samples of the untrained
    model, and sampled in bf16: otherwise measuring would cost more than training."""
    recipe = get_recipe(name)
    return replace(
        recipe,
        train=replace(recipe.train, validate_every=0, preview_every=0),
        sampling=replace(recipe.sampling, precision="bf16"),
        evaluation=replace(recipe.evaluation, parts=MEASURED),
    )


def _embedded(recipe: Recipe, scale: ScaleName) -> Recipe:
    """A recipe on the embedded pictures at a budget."""
    train = replace(recipe.train, preview_every=0)
    if scale in KEPT:
        train = replace(train, lr_at="end")
    sampling = replace(recipe.sampling, solver="dpm++", steps=16)
    evaluation = EvaluationConfig(parts=MEASURED, num_samples=256, input_size=64)
    if scale == "demo":
        train = replace(train, images=20_000, checkpoint_every=10_000)
    elif scale == "cpu":
        # Patches of 4 leave a quarter of the tokens and pass four times as many pictures.
        recipe = replace(recipe, denoiser=mmdit("tiny", patch_size=4))
        train = replace(train, images=40_000, batch_size=64, checkpoint_every=20_000)
    else:
        recipe = replace(recipe, denoiser=mmdit("B"))
        train = replace(
            train, images=2_000_000, batch_size=512, precision="bf16", checkpoint_every=500_000
        )
        evaluation = replace(evaluation, num_samples=5000, input_size=128)
    return replace(recipe, train=train, sampling=sampling, evaluation=evaluation)


def tied_base(scale: ScaleName, correlation: float) -> Recipe:
    """The base of classes, with original size tied to class so hard; the paper's data have one
    natural law, and no dial."""
    base = class_base(scale)
    return base if scale == "paper" else with_correlation(base, correlation)


def with_correlation(recipe: Recipe, correlation: float) -> Recipe:
    """The recipe on embedded pictures whose size is tied to their class.

    Raises:
        ConfigError: other pictures, whose sizes are what they are.
    """
    if not isinstance(recipe.data, OpenMojiConfig):
        raise ConfigError(
            f"a correlation between size and class ({correlation:g}) can be set for the embedded "
            f"pictures only, data.kind openmoji; this recipe has data.kind {recipe.data.kind}"
        )
    law = replace(recipe.data.size_law, class_correlation=correlation)
    return replace(recipe, data=replace(recipe.data, size_law=law))
