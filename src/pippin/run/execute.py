# SPDX-License-Identifier: Apache-2.0
"""One run of a study: train it, or go on, and measure it."""

from pathlib import Path

from rich.console import Console

from pippin.evaluation.measure import Measure
from pippin.recipes.recipe import Recipe
from pippin.run.evaluate import evaluate_run
from pippin.run.folder import RunFolder
from pippin.run.load import load_run
from pippin.run.train import train


def execute(recipe: Recipe, folder: Path) -> list[Measure]:
    """Train to the end (from the newest good checkpoint, if there is one), then evaluate."""
    console = Console(stderr=True)
    train(recipe, folder, resume=RunFolder(folder).config.exists(), console=console)
    run = load_run(folder, recipe.sampling.weights, console)
    return evaluate_run(run, folder)
