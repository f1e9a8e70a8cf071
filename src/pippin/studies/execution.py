# SPDX-License-Identifier: Apache-2.0
"""Execute one run of a study: train, evaluate, and record measurements with their protocol."""

import math
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from rich.console import Console

from pippin.config import IDENTITY, fingerprint, protocol
from pippin.evaluation.config import EvaluationConfig
from pippin.evaluation.measure import Measure
from pippin.evaluation.runs.evaluate import evaluate_run
from pippin.recipes.recipe import Recipe
from pippin.runs.checkpoint import newest_intact_checkpoint
from pippin.runs.folder import SHARED_WEIGHTS_FILE, RunFolder
from pippin.sampling.config import SamplingConfig
from pippin.sampling.load import load_run
from pippin.studies.declaration import flat
from pippin.studies.fairness import covered
from pippin.studies.results import Outcome, Row, Status
from pippin.studies.study import Study
from pippin.studies.study_folder import run_name
from pippin.system.files import make_folder, write_text
from pippin.system.formats import write_versioned_json
from pippin.system.installation import environment
from pippin.system.output import named_lines
from pippin.system.signals import TrainingDivergedError, TrainingStoppedError
from pippin.system.text import print_above_progress
from pippin.system.workers.processes import worker_failure_message
from pippin.training.train import train


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
        identical = identical and set(recipe.train.averages) <= set(other.train.averages)
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


Execute = Callable[[Recipe, Path], Sequence[Measure]]
"""Train the recipe in the folder (or resume its training), and evaluate it."""

FOLLOWS = {
    "model.images_seen": "train",
    "model.images_before": "init",
    "sampling.evaluations_per_image": "sampling",
    "sampling.guide_evaluations_per_image": "sampling",
    "guide.weights": "sampling",
    "guide.images_seen": "sampling",
    "guide.recipe": "sampling",
    "model.weights": "sampling",
    "autoencoder": "autoencoder",
    "data.train": "data",
    "data.held_out": "data",
    "data.captions": "text",
    "data.trained_on": "data",
}
"""Entry of a metric's protocol that depends on settings -> the section of these settings."""
MEASURED_FOLLOWS = ("autoencoder", "data", "init")
"""The sections on which measured normalisation statistics of an autoencoder depend."""


def execute_run(
    study: Study, folder: Path, arm: str, recipe: Recipe, execute: Execute
) -> tuple[list[Row], Outcome]:
    """The result rows and the outcome of one run; exceptions become a failed outcome."""
    run_folder = folder / "runs" / run_name(arm, recipe.seed)
    make_folder(run_folder)
    started = time.monotonic()
    rows: list[Row] = []
    status: Status = "finished"
    message = ""
    try:
        with named_lines(run_folder.name):
            measures = execute(recipe, run_folder)
        rows = [result_row(study, arm, recipe, measure) for measure in measures]
    except TrainingStoppedError:
        raise
    except Exception as error:  # a failure of one run must not stop the others
        status, message = failure_status(error)
        if status == "failed":
            write_text(run_folder / "failure.txt", traceback.format_exc())
    return rows, make_outcome(arm, recipe, status, message, time.monotonic() - started)


def failure_status(error: Exception) -> tuple[Literal["failed", "diverged"], str]:
    """Status and message of a run that raised."""
    if isinstance(error, TrainingDivergedError | FloatingPointError):
        return "diverged", str(error)
    if killed := worker_failure_message(error):
        return "failed", killed
    return "failed", f"{type(error).__name__}: {error}"


def make_outcome(
    arm: str, recipe: Recipe, status: Status, message: str, seconds: float
) -> Outcome:
    """The outcome of a run with the current time and environment."""
    return Outcome.from_dict(
        {
            "arm": arm,
            "seed": recipe.seed,
            "status": status,
            "message": message,
            "fingerprint": fingerprint(recipe),
            "wall_seconds": round(seconds, 3),
            "written": datetime.now(UTC).isoformat(timespec="seconds"),
            "environment": environment(),
        }
    )


def result_row(study: Study, arm: str, recipe: Recipe, measure: Measure) -> Row:
    """The result row of a measurement, with its protocol."""
    identity = {"name": measure.name, "unit": measure.unit}
    settings = protocol(recipe) | dict(flat({"measure": {**identity, **measure.protocol}}))
    declared = study.paths
    measured = recipe.autoencoder.normalisation == "measured"
    shared = {
        path: value for path, value in settings.items() if not _varies(path, declared, measured)
    }
    value = _finite(measure.value)
    return Row(
        study=study.name,
        arm=arm,
        seed=recipe.seed,
        metric=measure.name,
        value=value,
        low=_finite(measure.low),
        high=_finite(measure.high),
        interval_over=measure.interval_over,
        n=measure.n,
        unit=measure.unit,
        better=measure.better,
        subject=measure.subject,
        diverged=value is None,
        protocol=settings,
        fingerprint=fingerprint(settings),
        comparable=fingerprint(shared),
    )


def _varies(path: str, declared: tuple[str, ...], measured: bool) -> bool:
    """True if arms or seeds may differ in this entry of a protocol.

    Args:
        path: path of the entry.
        declared: the setting paths of the study's axes.
        measured: whether latents are normalised by measured statistics.
    """
    if not path.startswith("measure."):
        return path == "seed" or covered(path, declared)
    entry = path.removeprefix("measure.")
    if entry == "model.recipe":  # a fingerprint of all settings, which are compared themselves
        return True
    if entry in IDENTITY:  # identifies the run's files; rows of earlier versions have none
        return True
    if entry.startswith("chosen."):  # chosen for each arm, by a rule that all arms share
        return True
    sections: tuple[str | None, ...] = (FOLLOWS.get(entry),)
    if entry == "autoencoder" and measured:
        sections = MEASURED_FOLLOWS
    return covered(entry, declared) or any(
        declared_path.split(".")[0] in sections for declared_path in declared
    )


def _finite(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else float(value)
