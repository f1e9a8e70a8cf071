# SPDX-License-Identifier: Apache-2.0
"""Seeds of the samples and the noise of an evaluation.

With ``evaluation.seed_from_training`` they depend on the training seed, so that the intervals of a
study over training seeds include evaluation noise; otherwise all training seeds share them. Arms
of one training seed always share them, and splits of the reference always follow
``evaluation.seed``.
"""

from pippin.recipes.recipe import Recipe

STRIDE = 10_000_000
"""Distance between the seeds of two training seeds: more than any evaluation uses."""


def noise_seed(recipe: Recipe) -> int:
    """Seed of classes, of the images of pairs and of held-out noise."""
    return recipe.evaluation.seed + _offset(recipe)


def sample_seeds(recipe: Recipe, count: int, start: int = 0) -> range:
    """Seeds of the samples.

    Args:
        recipe: of the run.
        count: number of samples.
        start: first seed, before the offset of the training seed.
    """
    first = _offset(recipe) + start
    return range(first, first + count)


def _offset(recipe: Recipe) -> int:
    return recipe.seed * STRIDE if recipe.evaluation.seed_from_training else 0
