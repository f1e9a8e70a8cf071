# SPDX-License-Identifier: Apache-2.0
"""Notes before a training: settings that work, but slowly or badly."""

from collections.abc import Iterator

from pippin.preflight.start import Start
from pippin.recipes.checks import recipe_notes
from pippin.recipes.recipe import Recipe
from pippin.system.device import resolve_device, slow_bf16_note

DECLARED = "the study fixes this setting; use a GPU, or a CPU with bf16 units"
"""Remedy for a setting that a study's protocol fixes."""


def start_notes(start: Start) -> list[str]:
    """Notes on a start that has passed its checks; none on a cache build, on a run that resumes,
    whose settings stay, and on one of another machine."""
    if start.run is None or start.resumes or start.elsewhere:
        return []
    return list(training_notes(start.recipe))


def training_notes(recipe: Recipe, *, remedy: str | None = None) -> Iterator[str]:
    """Notes on a training on this machine, and on its samples.

    Args:
        recipe: the recipe.
        remedy: what to do about slow bf16; None = the option that turns it off.

    Raises:
        ValueError: a device that this machine lacks.
    """
    device = resolve_device(recipe.train.device)
    precisions = {
        "train.precision": recipe.train.precision,
        "sampling.precision": recipe.sampling.precision,
    }
    for setting, precision in precisions.items():
        if note := slow_bf16_note(device, setting, precision, remedy):
            yield note
    yield from recipe_notes(recipe)
