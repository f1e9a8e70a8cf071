# SPDX-License-Identifier: Apache-2.0
"""State of the runs below a folder, read without torch and without verifying weights."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pippin.config import difference
from pippin.recipes.recipe import Recipe
from pippin.recipes.table import RECIPES, get_recipe
from pippin.runs.checkpoint_folders import has_all_files, list_checkpoints
from pippin.runs.folder import INPUTS_FILE, SHARED_WEIGHTS_FILE, RunFolder
from pippin.system.files import read_regular
from pippin.system.formats import FormatError, read_versioned_json
from pippin.system.lines import parse_line
from pippin.system.lock import is_locked

State = Literal["finished", "interrupted", "damaged", "running"]
MAX_DEPTH = 4
"""Levels below the given folder: a study keeps runs in STUDY/runs/NAME."""


@dataclass(frozen=True, kw_only=True)
class RunOverview:
    """One run."""

    folder: Path
    recipe: str
    """Nearest recipe, and the number of settings that differ."""
    images_seen: int
    """Images of the newest checkpoint, or of the log while the run trains."""
    images: int | None
    """Length of the run; None if its record cannot be read."""
    state: State
    loss: float | None
    """Last logged training loss."""
    problem: str = ""
    """Why the run is damaged."""


def find_runs(folder: Path) -> Iterator[Path]:
    """Run folders at and below a folder, by name; folders inside a run are not searched."""
    if _is_run(folder):
        yield folder
        return
    for parent, names, _ in os.walk(folder):
        path = Path(parent)
        deep = len(path.relative_to(folder).parts) >= MAX_DEPTH - 1
        runs = sorted(name for name in names if _is_run(path / name))
        names[:] = [] if deep else sorted(set(names) - set(runs))
        yield from (path / name for name in runs)


def _is_run(folder: Path) -> bool:
    """Whether training wrote into a folder; an exported model has no checkpoints and no log."""
    run = RunFolder(folder)
    if (folder / SHARED_WEIGHTS_FILE).is_file():
        return False
    return (run.config.is_file() and run.log.is_file()) or run.checkpoints.is_dir()


def overview(folder: Path) -> RunOverview:
    """Recipe, progress and state of a run."""
    run = RunFolder(folder)
    logged, loss = _last_loss(run.log)
    checkpoints = list_checkpoints(run.checkpoints)
    seen = int(checkpoints[0].name) if checkpoints else 0
    running = is_locked(folder)
    try:
        recipe: Recipe | None = run.recipe()
        problem = ""
    except (ValueError, OSError) as error:
        recipe, problem = None, str(error)
    if checkpoints and not has_all_files(checkpoints[0]):
        problem = problem or f"{checkpoints[0]} lacks files"
    images = recipe.train.images if recipe else None
    state: State = "interrupted"
    if running:
        state = "running"
    elif problem:
        state = "damaged"
    elif images is not None and seen >= images:
        state = "finished"
    return RunOverview(
        folder=folder,
        recipe=nearest_recipe(recipe) if recipe else "?",
        images_seen=max(seen, logged) if running else seen,
        images=images,
        state=state,
        loss=loss,
        problem=problem,
    )


def nearest_recipe(recipe: Recipe) -> str:
    """Name of the recipe that differs in the fewest settings, such as ``openmoji/dit + 2``."""
    changes = {
        name: len(difference(get_recipe(name), recipe))
        for name in RECIPES
        if recipe.family in ("", name.partition("/")[0])
    }
    if not changes:
        return recipe.family
    name = min(changes, key=changes.__getitem__)
    return f"{name} + {changes[name]}" if changes[name] else name


def _last_loss(log: Path) -> tuple[int, float | None]:
    """Images and loss of the last line of a log that has one."""
    if not log.is_file():
        return 0, None
    for line in reversed(read_regular(log).split(b"\n")):
        try:
            values = parse_line(line)
        except ValueError:  # empty, or cut by a kill
            continue
        images, loss = values.get("images"), values.get("loss")
        if isinstance(images, int) and isinstance(loss, int | float):
            return images, float(loss)
    return 0, None


def recorded_inputs(folder: Path) -> dict[str, Any] | None:
    """Recorded inputs of a run that identify its caches; None without a readable record.

    Returns:
        ``autoencoder`` and ``text_encoder``: fingerprints; ``source``: hash of all training
        images; ``bucketed``: whether its caches hold parts of them.

    Raises:
        FormatError: the record is of a newer version.
    """
    try:
        inputs = read_versioned_json(folder / INPUTS_FILE, "inputs")
        data = read_versioned_json(folder / "config.json", Recipe.FORMAT)["data"]
        return {
            "autoencoder": inputs["autoencoder"],
            "text_encoder": inputs.get("text_encoder"),
            "source": inputs["data"]["source_hash"],
            "bucketed": bool(data.get("aspect_ratios")),
        }
    except FormatError:
        raise
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return None
