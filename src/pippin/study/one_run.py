# SPDX-License-Identifier: Apache-2.0
"""One run of a study: executed, whatever happens in it, and its numbers with their protocol."""

import math
import time
import traceback
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from pippin.config import IDENTITY, fingerprint, protocol
from pippin.evaluation.measure import Measure
from pippin.recipes.recipe import Recipe
from pippin.study.declaration import flat
from pippin.study.environment import environment
from pippin.study.fairness import covered
from pippin.study.folder import run_name
from pippin.study.results import Outcome, Row, Status
from pippin.study.study import Study
from pippin.system.children import killed_worker
from pippin.system.files import write_text
from pippin.system.flush import make_folder
from pippin.training.trainer import TrainingDivergedError, TrainingStoppedError

Execute = Callable[[Recipe, Path], Sequence[Measure]]
"""Train (or go on training) the recipe in the folder, and measure it."""

FOLLOWS = {
    "model.images_seen": "train",
    "model.images_before": "init",
    "sampling.evaluations_per_image": "sampling",
    "model.weights": "sampling",
    "autoencoder": "autoencoder",
    "data.train": "data",
    "data.held_out": "data",
    "data.captions": "text",
    "data.trained_on": "data",
}
"""What a metric's protocol says that follows from settings -> the section of these settings."""
MEASURED_FOLLOWS = ("autoencoder", "data", "init")
"""The sections that measured numbers of an autoencoder follow from."""


def one_run(
    study: Study, folder: Path, arm: str, recipe: Recipe, execute: Execute
) -> tuple[list[Row], Outcome]:
    """One run's rows and how it ended."""
    run_folder = folder / "runs" / run_name(arm, recipe.seed)
    make_folder(run_folder)
    started = time.monotonic()
    rows: list[Row] = []
    status: Status = "finished"
    message = ""
    try:
        rows = [row_of(study, arm, recipe, measure) for measure in execute(recipe, run_folder)]
    except TrainingStoppedError:
        raise
    except Exception as error:  # whatever happens in one run must not cost the others
        status, message = ending_of(error)
        if status == "failed":
            write_text(run_folder / "failure.txt", traceback.format_exc())
    return rows, outcome_of(arm, recipe, status, message, time.monotonic() - started)


def ending_of(error: Exception) -> tuple[Literal["failed", "diverged"], str]:
    """Status and message of a run that raised."""
    if isinstance(error, TrainingDivergedError | FloatingPointError):
        return "diverged", str(error)
    if killed := killed_worker(error):
        return "failed", killed
    return "failed", f"{type(error).__name__}: {error}"


def outcome_of(arm: str, recipe: Recipe, status: Status, message: str, seconds: float) -> Outcome:
    """How a run ended, now and here."""
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


def row_of(study: Study, arm: str, recipe: Recipe, measure: Measure) -> Row:
    """A measure with the protocol that it was made under."""
    own = {"name": measure.name, "unit": measure.unit}
    content = protocol(recipe) | dict(flat({"measure": {**own, **measure.protocol}}))
    declared = study.paths
    measured = recipe.autoencoder.normalisation == "measured"
    shared = {
        path: value for path, value in content.items() if not _varies(path, declared, measured)
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
        protocol=content,
        fingerprint=fingerprint(content),
        comparable=fingerprint(shared),
    )


def _varies(path: str, declared: tuple[str, ...], measured: bool) -> bool:
    """Whether arms or seeds may differ in this entry of a protocol.

    Args:
        path: of the entry.
        declared: the setting paths of the study's axes.
        measured: whether latents are normalised by measured numbers.
    """
    if not path.startswith("measure."):
        return path == "seed" or covered(path, declared)
    entry = path.removeprefix("measure.")
    if entry == "model.recipe":  # the fingerprint of all settings, which stand here themselves
        return True
    if entry in IDENTITY:  # of this very run, and rows of earlier versions have none
        return True
    if entry.startswith("chosen."):  # what an arm chose for itself, by a rule that all share
        return True
    sections: tuple[str | None, ...] = (FOLLOWS.get(entry),)
    if entry == "autoencoder" and measured:
        sections = MEASURED_FOLLOWS
    return covered(entry, declared) or any(one.split(".")[0] in sections for one in declared)


def _finite(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else float(value)
