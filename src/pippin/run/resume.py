# SPDX-License-Identifier: Apache-2.0
"""A run that is resumed, or trained beside others of a study: its data held against theirs."""

from dataclasses import dataclass, replace
from pathlib import Path

from safetensors import safe_open

from pippin.config import ConfigError, protocol
from pippin.data.config import ImagesConfig
from pippin.data.record import decoder_change, format_names
from pippin.model import LatentDenoiser
from pippin.recipes.recipe import Recipe
from pippin.run.components import Parts
from pippin.run.folder import INPUTS_FILE, MOVABLE_SETTINGS, Resume, RunFolder
from pippin.run.inputs import (
    UNRECORDED,
    Differences,
    InputsChange,
    RunInputs,
    inputs_after_resume,
    inputs_in,
    read_inputs,
    reads_classes,
    with_folder_paths,
)
from pippin.run.trained import CLASS_TABLES
from pippin.run.training_record import refuse_reordered_classes
from pippin.system.terminal import print_above_progress
from pippin.training.checkpoint import RAW, load_state
from pippin.training.log import RunLog


@dataclass(frozen=True, kw_only=True)
class ResumeRequest:
    """How a training is to go on."""

    resume: Resume = False
    allow_changed_data: bool = False
    """Also with other images or captions than before."""


def resumed_inputs(
    parts: Parts, run: RunFolder, checkpoint: Path, now: RunInputs, request: ResumeRequest
) -> RunInputs:
    """The inputs of a run that resumes from a checkpoint.

    Args:
        parts: components of the run.
        run: its folder.
        checkpoint: its newest good checkpoint.
        now: current inputs.
        request: whether changed data are allowed.

    Raises:
        ValueError: see :func:`pippin.run.inputs.inputs_after_resume`; or a run without a record
            has another number of classes, or a new path that cannot be verified.
    """
    state = load_state(checkpoint)
    recorded = with_folder_paths(inputs_in(state, str(checkpoint)), run.path)
    if recorded is None:
        return _unrecorded(parts, run, checkpoint, now, request)
    inputs = inputs_after_resume(
        recorded,
        now,
        parts.recipe,
        source=str(run.path),
        images_seen=state["images_seen"],
        allow_changed_data=request.allow_changed_data,
    )
    if changed := decoder_change(recorded.data, now.data):
        print_above_progress(parts.console, changed, label="pixels may differ by rounding:")
    if len(inputs.changes) > len(recorded.changes):
        print_above_progress(
            parts.console, inputs.changes[-1].what, label="resuming on other data:"
        )
    return inputs


def _unrecorded(
    parts: Parts, run: RunFolder, checkpoint: Path, now: RunInputs, request: ResumeRequest
) -> RunInputs:
    """The same for a run of a version that kept no record."""
    recipe = parts.recipe
    if not isinstance(recipe.data, ImagesConfig):  # the settings say all of embedded images
        return now
    folder, names = now.places.get("data.path", recipe.data.path), now.data.class_names
    refuse_reordered_classes(parts.train_source, recipe, str(run.path))
    count = _stored_classes(checkpoint)
    if reads_classes(recipe) and count not in (None, len(names)):
        raise ValueError(
            f"{folder} has {len(names)} classes ({format_names(names)}), and {run.path} was "
            f"trained on {count}; their names are unknown, an older version began it: put the data "
            "back, or give the folder that it was trained on with --data.path"
        )
    before, given = protocol(run.recipe()), protocol(recipe)
    moved = [one for one in MOVABLE_SETTINGS if before.get(one) != given.get(one)]
    if moved and not request.allow_changed_data:
        raise ValueError(
            f"{run.path} was begun by a version that kept no hash of its images: whether {folder} "
            f"holds those of {moved[0]} {before.get(moved[0])} cannot be known; if it does, "
            "resume with --allow-changed-data True"
        )
    print_above_progress(
        parts.console,
        f"{run.path!s} was begun by a version that kept no class "
        "names and no hash of its images, so whether these changed is not known; they are "
        "recorded from here on",
        label="no record:",
    )
    seen = load_state(checkpoint)["images_seen"]
    return replace(now, changes=(InputsChange(images_seen=seen, what=UNRECORDED),))


def _stored_classes(checkpoint: Path) -> int | None:
    """Of the class table; None where the model has none."""
    with safe_open(checkpoint / f"{RAW}.safetensors", framework="pt") as file:
        rows = [
            int(file.get_slice(name).get_shape()[0])
            for name in file.keys()  # noqa: SIM118
            if name in CLASS_TABLES
        ]
    return rows[0] - 1 if rows else None


def with_null_mask(inputs: RunInputs, model: LatentDenoiser) -> RunInputs:
    """The inputs with the mask of the model's null caption, which its weights do not hold."""
    mask = model.conditioner.null_mask
    return inputs if mask is None else replace(inputs, null_mask=tuple(mask.tolist()))


def note_changes(log: RunLog, inputs: RunInputs, images_seen: int) -> None:
    """Write a line of the log for what was changed where the training goes on now."""
    for change in inputs.changes:
        if change.images_seen == images_seen:
            log.note(images_seen, f"resumed on other data: {change.what}")


def update_recorded_paths(run: RunFolder, inputs: RunInputs) -> None:
    """Keep where the paths of a finished run lead now; nothing else of it changes."""
    own = read_inputs(run.path)
    if own is not None and own.places != own.places | inputs.places:
        replace(own, places=own.places | inputs.places).save(run.path / INPUTS_FILE)


def refuse_other_data(folder: Path, recipe: Recipe, inputs: RunInputs) -> None:
    """Refuse a study's run whose images, of the same settings, are not those of its other runs.

    Raises:
        ValueError: naming the other run and what differs.
    """
    study = folder.parent.parent
    if not (study / "study.json").is_file():
        return
    for other in sorted((*study.glob("runs/*"), *study.glob("starts/*"))):
        theirs = read_inputs(other) if other != folder else None
        if theirs is None or not _same_settings(other, recipe):
            continue
        found = Differences.between(theirs, inputs, recipe)
        if problem := found.classes or found.images:
            raise ValueError(
                f"{other} of the same study was trained on other data than are there now: "
                f"{problem}. Numbers of both could not be compared: put the data back, or begin "
                "the study in another folder"
            )


def _same_settings(other: Path, recipe: Recipe) -> bool:
    """Whether another run's recipe names the same data."""
    try:
        theirs = Recipe.load(RunFolder(other).config)
    except (OSError, ConfigError):
        return False
    return theirs.data == recipe.data
