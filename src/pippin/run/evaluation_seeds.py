# SPDX-License-Identifier: Apache-2.0
"""Which seeds the samples and noise of an evaluation have.

With ``evaluation.seed_from_training`` they depend on the training seed, so that the intervals of a
study over training seeds hold evaluation noise too; otherwise all training seeds share it. Arms of
one training seed share it either way, and splits of the reference are those of
``evaluation.seed`` always.
"""

from pippin.recipes.recipe import Recipe

STRIDE = 10_000_000
"""Between the seeds of two training seeds: more than any evaluation takes."""


def noise_seed(recipe: Recipe) -> int:
    """The seed of classes, images of pairs and held-out noise."""
    return recipe.evaluation.seed + _offset(recipe)


def sample_seeds(recipe: Recipe, count: int, start: int = 0) -> range:
    """Seeds of so many samples.

    Args:
        recipe: of the run.
        count: how many.
        start: where they begin, where the training seed does not matter.
    """
    first = _offset(recipe) + start
    return range(first, first + count)


def _offset(recipe: Recipe) -> int:
    return recipe.seed * STRIDE if recipe.evaluation.seed_from_training else 0
