# SPDX-License-Identifier: Apache-2.0
"""Run every arm of a study on every seed, so that it can be stopped anywhere and goes on."""

import dataclasses
import math
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from pippin.config import ConfigError, fingerprint, protocol
from pippin.evaluation.measure import Measure
from pippin.recipes.recipe import Recipe
from pippin.run.folder import start_folder
from pippin.study.declaration import flat
from pippin.study.environment import environment
from pippin.study.folder import declare, run_name
from pippin.study.results import Outcome, Results, Row, append, read, repair
from pippin.study.study import Study, covered, start_of
from pippin.system.files import write_text
from pippin.system.lock import folder_lock
from pippin.training.trainer import TrainingDivergedError, TrainingStoppedError

Execute = Callable[[Recipe, Path], Sequence[Measure]]
"""Train (or go on training) the recipe in the folder, and measure it."""
Pretrain = Callable[[Recipe, Path], None]
"""Train the recipe in the folder unless it is finished there."""

FOLLOWS = {
    "model.images_seen": "train",
    "model.images_before": "init",
    "sampling.evaluations_per_image": "sampling",
    "autoencoder": "autoencoder",
}
"""What a metric's protocol says that follows from settings -> the section of these settings."""


@dataclass(frozen=True, kw_only=True)
class Summary:
    """What one call of :func:`run_study` did."""

    statuses: dict[str, str]
    """Run's folder name -> "finished", "diverged", "failed", or "skipped" where an earlier call
    had finished it."""
    interrupted: bool


def run_study(
    study: Study,
    folder: Path,
    execute: Execute,
    progress: Callable[[str], None],
    pretrain: Pretrain | None = None,
) -> Summary:
    """Run what of the study has not finished yet, seed by seed, so that pairs complete together.

    ``pretrain`` makes the runs that arms start from; only a study that has such needs it.

    A run that raises is recorded as failed with its message and the rest goes on; the next call
    tries it again. Ctrl-C stops after recording nothing false.

    Raises:
        ConfigError: the study is no fair comparison, it has runs to start from and nothing trains
            them, the folder holds another study, or another process is at work in it.
    """
    study.check()
    if study.starts and pretrain is None:
        raise ConfigError(f"study {study.name!r} has runs to start from: give pretrain")
    folder.mkdir(parents=True, exist_ok=True)
    with folder_lock(folder):
        declare(study, folder)
        note = repair(folder / "results.jsonl")
        before = read(folder / "results.jsonl")
        for line in [*([note] if note else []), *before.problems]:
            progress(line)
        complete = _starting(study, folder, execute, pretrain)
        return _run_all(study, folder, complete, progress, before)


def _starting(study: Study, folder: Path, execute: Execute, pretrain: Pretrain | None) -> Execute:
    """The same, after the runs that a recipe starts from."""

    def prepare(recipe: Recipe) -> None:
        name = start_of(recipe)
        if name is not None and pretrain is not None:
            start = dataclasses.replace(study.starts[name], seed=recipe.seed)
            prepare(start)
            pretrain(start, start_folder(folder, name, recipe.seed))

    def run(recipe: Recipe, place: Path) -> Sequence[Measure]:
        prepare(recipe)
        return execute(recipe, place)

    return run


def _run_all(
    study: Study, folder: Path, execute: Execute, progress: Callable[[str], None], before: Results
) -> Summary:
    statuses: dict[str, str] = {}
    arms = study.arms()
    runs = [(arm, seed) for seed in study.seeds for arm in arms]
    for number, (arm, seed) in enumerate(runs, start=1):
        name, recipe = run_name(arm, seed), dataclasses.replace(arms[arm], seed=seed)
        if before.done(arm, seed, fingerprint(recipe)):
            statuses[name] = "skipped"
            continue
        progress(f"run {number} of {len(runs)}: {name}")
        try:
            rows, outcome = _one(study, folder, arm, recipe, execute)
        except (KeyboardInterrupt, TrainingStoppedError):
            progress("stopped; the same command goes on from here")
            return Summary(statuses=statuses, interrupted=True)
        append(folder / "results.jsonl", [*rows, outcome])
        statuses[name] = outcome.status
        if outcome.message:
            progress(f"{name} {outcome.status}: {outcome.message}; the other runs go on")
    return Summary(statuses=statuses, interrupted=False)


def _one(
    study: Study, folder: Path, arm: str, recipe: Recipe, execute: Execute
) -> tuple[list[Row], Outcome]:
    """One run's rows and how it ended."""
    run_folder = folder / "runs" / run_name(arm, recipe.seed)
    run_folder.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    rows: list[Row] = []
    status, message = "finished", ""
    try:
        rows = [row_of(study, arm, recipe, measure) for measure in execute(recipe, run_folder)]
    except TrainingStoppedError:
        raise
    except (TrainingDivergedError, FloatingPointError) as error:
        status, message = "diverged", str(error)
    except Exception as error:  # whatever happens in one run must not cost the others
        status, message = "failed", f"{type(error).__name__}: {error}"
        write_text(run_folder / "failure.txt", traceback.format_exc())
    outcome = Outcome.from_dict(
        {
            "arm": arm,
            "seed": recipe.seed,
            "status": status,
            "message": message,
            "fingerprint": fingerprint(recipe),
            "wall_seconds": round(time.monotonic() - started, 3),
            "written": datetime.now(UTC).isoformat(timespec="seconds"),
            "environment": environment(),
        }
    )
    return rows, outcome


def row_of(study: Study, arm: str, recipe: Recipe, measure: Measure) -> Row:
    """A measure with the protocol that it was made under."""
    own = {"name": measure.name, "unit": measure.unit}
    content = protocol(recipe) | dict(flat({"measure": {**own, **measure.protocol}}))
    declared = study.paths
    shared = {path: value for path, value in content.items() if not _varies(path, declared)}
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


def _varies(path: str, declared: tuple[str, ...]) -> bool:
    """Whether arms or seeds may differ in this entry of a protocol."""
    if not path.startswith("measure."):
        return path == "seed" or covered(path, declared)
    entry = path.removeprefix("measure.")
    if entry == "model.recipe":  # the fingerprint of all settings, which stand here themselves
        return True
    if entry.startswith("chosen."):  # what an arm chose for itself, by a rule that all share
        return True
    section = FOLLOWS.get(entry)
    return covered(entry, declared) or any(one.split(".")[0] == section for one in declared)


def _finite(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else float(value)
