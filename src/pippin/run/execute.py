# SPDX-License-Identifier: Apache-2.0
"""One run of a study: train or resume it, then evaluate it."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from pippin.config import fingerprint
from pippin.evaluation.config import EvaluationConfig
from pippin.evaluation.measure import Measure
from pippin.recipes.recipe import Recipe
from pippin.run.evaluate import evaluate_run
from pippin.run.folder import SHARED_WEIGHTS_FILE, RunFolder
from pippin.run.load import load_run
from pippin.run.train import train
from pippin.sampling.config import SamplingConfig
from pippin.system.formats import write_versioned_json
from pippin.system.fsync import make_folder
from pippin.system.terminal import print_above_progress
from pippin.training.checkpoint import newest_intact_checkpoint


def execute(recipe: Recipe, folder: Path) -> list[Measure]:
    """Train to the end, from the newest good checkpoint if there is one, then evaluate.

    Where a finished run in the same folder of runs has an identical training, so that the two
    differ in sampling and evaluation only, the runs share its weights: the same training would
    give the same bits.
    """
    console = Console(stderr=True)
    source = _find_shared_weights(recipe, folder)
    if source is None:
        train(recipe, folder, resume="auto", console=console)
    else:
        print_above_progress(
            console, f"{folder.name} shares the weights of {source.name}: identical training"
        )
        make_folder(folder)
        write_versioned_json(folder / SHARED_WEIGHTS_FILE, "run", {"run": source.name})
    run = load_run(source or folder, recipe.sampling.weights, console, recipe)
    return evaluate_run(run, folder)


def pretrain(recipe: Recipe, folder: Path) -> None:
    """Train a run that others start from, unless it is finished already.

    Raises:
        ValueError: the folder holds a run with other settings.
    """
    run = RunFolder(folder)
    if run.resumes("auto"):
        run.check(recipe, resume=True)
        if _finished(folder, recipe):
            return
    train(recipe, folder, resume="auto")


def _find_shared_weights(recipe: Recipe, folder: Path) -> Path | None:
    """A finished run in the same folder of runs whose training has the same protocol."""
    if RunFolder(folder).config.exists():
        return None
    for config in sorted(folder.parent.glob("*/config.json")):
        try:
            other = Recipe.load(config)
        except ValueError:  # damaged, or of a newer version
            continue
        identical = training_fingerprint(other) == training_fingerprint(recipe)
        identical = identical and set(recipe.train.ema_extra) <= set(other.train.ema_extra)
        if identical and _finished(config.parent, recipe):
            return config.parent
    return None


def _finished(folder: Path, recipe: Recipe) -> bool:
    newest, _ = newest_intact_checkpoint(RunFolder(folder).checkpoints)
    return newest is not None and int(newest.name) >= recipe.train.images


def training_fingerprint(recipe: Recipe) -> str:
    """Fingerprint of all settings that training depends on."""
    return fingerprint(replace(recipe, sampling=SamplingConfig(), evaluation=EvaluationConfig()))


def first_with_same_training(recipes: Mapping[str, Recipe]) -> dict[str, str]:
    """Each name -> the first name whose recipe has the same training: itself, or a recipe that
    differs in sampling and evaluation only."""
    first: dict[str, str] = {}
    return {
        name: first.setdefault(training_fingerprint(recipe), name)
        for name, recipe in recipes.items()
    }
