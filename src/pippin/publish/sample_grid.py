# SPDX-License-Identifier: Apache-2.0
"""Grid of samples for a model card, drawn from the folder that others load."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from pippin.images.files import image_grid, save_png
from pippin.publish.card_sections import SAMPLES
from pippin.publish.facts import CardFacts
from pippin.sampling.config import SamplingConfig
from pippin.sampling.load import LoadedRun, load_run
from pippin.sampling.sample import draw, sample_rows
from pippin.types import Prompt


def grid_prompts(facts: CardFacts, given: tuple[str, ...], count: int) -> tuple[str, ...]:
    """Prompts of a text model's grid: given ones, or those of the training's previews.

    Args:
        facts: of the model.
        given: prompts of the author.
        count: images of the grid; 0 = none.

    Raises:
        ValueError: neither, or prompts for a model that reads none.
    """
    if given and not facts.reads_text:
        raise ValueError("this model reads no text: leave --prompts out")
    prompts = given or facts.trained.recipe.train.preview_prompts
    if facts.reads_text and count and not prompts:
        raise ValueError(
            "the grid of samples needs prompts, and the recipe has no train.preview_prompts: type "
            '--prompts "a red apple" ..., or --samples 0 for no grid'
        )
    return prompts if facts.reads_text else ()


def draw_grid(
    facts: CardFacts, folder: Path, prompts: Sequence[str], count: int, console: Console
) -> CardFacts:
    """Draw a grid from an exported folder, and save it there.

    Args:
        facts: of the model.
        folder: the exported folder.
        prompts: of a text model, used in turn; other models draw all classes in turn.
        count: images, with seeds from 0; 0 = no grid.
        console: for progress.

    Returns:
        The facts with the rows of the grid.
    """
    if count == 0:
        return facts
    run = load_run(folder, console=console)
    choices: Sequence[Prompt] = prompts or range(run.num_classes)
    requested = [choices[index % len(choices)] for index in range(count)]
    config, seeds = run.recipe.sampling, range(count)
    save_png(image_grid(draw(run, requested, seeds, config)), folder / SAMPLES)
    rows = tuple(row.to_dict() for row in sample_rows(run, requested, seeds))
    return replace(facts, samples=rows, samples_sampling=_sampling_words(run, config))


def _sampling_words(run: LoadedRun, config: SamplingConfig) -> str:
    scale = config.guidance.semantic_scale
    guided = f"guidance {scale:g}" if scale != 1 else "no guidance"
    if scale != 1 and config.guidance.rescale:
        guided += f" rescaled by {config.guidance.rescale:g}"
    return f"{run.weights} weights, {config.solver}, {config.steps} steps, {guided}"
