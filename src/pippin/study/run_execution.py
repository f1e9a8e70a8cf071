# SPDX-License-Identifier: Apache-2.0
"""Execute one run of a study: its measurements with their protocol, and its outcome."""

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
from pippin.system.files import write_text
from pippin.system.fsync import make_folder
from pippin.system.signals import TrainingDivergedError, TrainingStoppedError
from pippin.system.worker_processes import worker_failure_message

Execute = Callable[[Recipe, Path], Sequence[Measure]]
"""Train the recipe in the folder (or resume its training), and evaluate it."""

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
        rows = [result_row(study, arm, recipe, measure) for measure in execute(recipe, run_folder)]
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
