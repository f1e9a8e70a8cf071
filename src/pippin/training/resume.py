# SPDX-License-Identifier: Apache-2.0
"""Checkpoint and data checks of a run that resumes, or that belongs to a study with other runs."""

from dataclasses import dataclass, replace
from pathlib import Path
from shlex import quote

import torch
from rich.console import Console

from pippin.config import ConfigError, protocol
from pippin.data.config import ImagesConfig
from pippin.data.record import decoder_change, format_names
from pippin.distributed.world import World
from pippin.model import LatentDenoiser, stored_num_classes
from pippin.recipes.recipe import Recipe
from pippin.runs.checkpoint import newest_intact_checkpoint
from pippin.runs.checkpoint_folders import list_aside
from pippin.runs.checkpoint_state import RAW, load_state, part_files
from pippin.runs.components import Components
from pippin.runs.folder import INPUTS_FILE, MOVABLE_SETTINGS, Resume, RunFolder
from pippin.runs.inputs import (
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
from pippin.runs.storage.part_files import part_sizes
from pippin.runs.training_record import refuse_reordered_classes
from pippin.system.text import print_above_progress
from pippin.training.log import RunLog


@dataclass(frozen=True, kw_only=True)
class ResumeRequest:
    """Resume options of a training."""

    resume: Resume = False
    allow_changed_data: bool = False
    """Resume even where images or captions changed."""


def resumed_checkpoint(
    run: RunFolder, request: ResumeRequest, console: Console, world: World
) -> Path | None:
    """The checkpoint at which a run resumes, None to start at image 0. Rank 0 chooses and verifies
    it for all ranks, which must call this: they read a sharded one together.

    Raises:
        ValueError: all checkpoints are damaged, or this rank does not see the chosen one.
    """
    chosen = None
    with world.rank0_first():  # verifying a large one takes minutes
        if world.is_rank0 and run.resumes(request.resume):
            chosen = _newest_checkpoint(run, console)
    images = int(world.broadcast(torch.tensor(-1 if chosen is None else int(chosen.name))))
    path = None if images < 0 else run.checkpoints / str(images)
    if path is not None and not path.is_dir():
        raise ValueError(
            f"rank {world.rank} does not see {path}, at which rank 0 resumes: put the run folder "
            "on a disk that all machines share"
        )
    return path


def _newest_checkpoint(run: RunFolder, console: Console) -> Path | None:
    """The newest intact checkpoint, or None before the first; skipped ones are logged.

    Raises:
        ValueError: all checkpoints are damaged.
    """
    path, problems = newest_intact_checkpoint(run.checkpoints)
    problems += [
        f"{path}: kept, but not used (rm -r {quote(str(path))} removes it)"
        for path in list_aside(run.checkpoints)
    ]
    if path is None and problems:
        listed = "".join(f"\n  {problem}" for problem in problems)
        raise ValueError(
            f"no checkpoint in {run.checkpoints} is intact, so the run cannot be resumed:"
            f"{listed}\nrestore an intact one. To start over from image 0, move them away: mv "
            f"{quote(str(run.checkpoints))} {quote(f'{run.checkpoints}.damaged')}, and give the "
            "same command again"
        )
    for problem in problems:
        print_above_progress(console, problem, label="skipped checkpoint:")
    if path is None:
        print_above_progress(console, "no checkpoint yet: starting from image 0")
    return path


def resumed_inputs(
    components: Components,
    run: RunFolder,
    checkpoint: Path,
    now: RunInputs,
    request: ResumeRequest,
) -> RunInputs:
    """The inputs of a run that resumes from a checkpoint.

    Args:
        components: components of the run.
        run: its folder.
        checkpoint: its newest good checkpoint.
        now: current inputs.
        request: whether changed data are allowed.

    Raises:
        ValueError: see :func:`pippin.runs.inputs.inputs_after_resume`; or a run without a record
            has another number of classes, or a new path that cannot be verified.
    """
    state = load_state(checkpoint)
    recorded = with_folder_paths(inputs_in(state, str(checkpoint)), run.path)
    if recorded is None:
        return _unrecorded(components, run, checkpoint, now, request)
    inputs = inputs_after_resume(
        recorded,
        now,
        components.recipe,
        source=str(run.path),
        images_seen=state["images_seen"],
        allow_changed_data=request.allow_changed_data,
    )
    if changed := decoder_change(recorded.data, now.data):
        print_above_progress(components.console, changed, label="pixels may differ by rounding:")
    if len(inputs.changes) > len(recorded.changes):
        print_above_progress(
            components.console, inputs.changes[-1].what, label="resuming on other data:"
        )
    return inputs


def _unrecorded(
    components: Components,
    run: RunFolder,
    checkpoint: Path,
    now: RunInputs,
    request: ResumeRequest,
) -> RunInputs:
    """The inputs of a resumed run that an older version recorded none for."""
    recipe = components.recipe
    if not isinstance(recipe.data, ImagesConfig):  # the settings identify embedded images
        return now
    folder, names = now.places.get("data.path", recipe.data.path), now.data.class_names
    refuse_reordered_classes(components.train_source, recipe, str(run.path))
    count = _stored_classes(checkpoint)
    if reads_classes(recipe) and count not in (None, len(names)):
        raise ValueError(
            f"{folder} has {len(names)} classes ({format_names(names)}), and {run.path} was "
            f"trained on {count}; their names are unknown, an older version started it: restore "
            "the data, or give the folder that it was trained on with --data.path"
        )
    before, now_given = protocol(run.recipe()), protocol(recipe)
    moved = [name for name in MOVABLE_SETTINGS if before.get(name) != now_given.get(name)]
    if moved and not request.allow_changed_data:
        raise ValueError(
            f"{run.path} was started by a version that kept no hash of its images: whether "
            f"{folder} holds those of {moved[0]} {before.get(moved[0])} cannot be known; if it "
            "does, resume with --allow-changed-data True"
        )
    print_above_progress(
        components.console,
        f"{run.path!s} was started by a version that kept no class "
        "names and no hash of its images, so changes cannot be detected; they are "
        "recorded from here on",
        label="no record:",
    )
    seen = load_state(checkpoint)["images_seen"]
    return replace(now, changes=(InputsChange(images_seen=seen, what=UNRECORDED),))


def _stored_classes(checkpoint: Path) -> int | None:
    """Number of classes in the class table; None where the model has none."""
    sizes = part_sizes(checkpoint, RAW, part_files(load_state(checkpoint))[RAW])
    return stored_num_classes(sizes)


def with_null_mask(inputs: RunInputs, model: LatentDenoiser) -> RunInputs:
    """Add the mask of the model's null caption, which its weights do not contain."""
    mask = model.conditioner.null_mask
    return inputs if mask is None else replace(inputs, null_mask=tuple(mask.tolist()))


def note_changes(log: RunLog, inputs: RunInputs, images_seen: int) -> None:
    """Log the data changes of the current resume."""
    for change in inputs.changes:
        if change.images_seen == images_seen:
            log.note(images_seen, f"resumed on other data: {change.what}")


def update_recorded_paths(run: RunFolder, inputs: RunInputs) -> None:
    """Update the recorded paths of a finished run; nothing else of it changes."""
    own = read_inputs(run.path)
    if own is not None and own.places != own.places | inputs.places:
        replace(own, places=own.places | inputs.places).save(run.path / INPUTS_FILE)


def refuse_other_data(folder: Path, recipe: Recipe, inputs: RunInputs) -> None:
    """Refuse a study's run whose images differ from those of another run with the same settings
    of data. Captions and files of the text encoder are compared where both runs read the same.

    Raises:
        ValueError: the message names the other run and the difference.
    """
    study = folder.parent.parent
    if not (study / "study.json").is_file():
        return
    for other in sorted((*study.glob("runs/*"), *study.glob("starts/*"))):
        other_inputs = read_inputs(other) if other != folder else None
        other_recipe = _recipe(other) if other_inputs is not None else None
        if other_inputs is None or other_recipe is None or other_recipe.data != recipe.data:
            continue
        differences = Differences.between(other_inputs, inputs, recipe, other_recipe)
        if problem := differences.classes or differences.images:
            raise ValueError(
                f"{other} of the same study was trained on other data than are there now: "
                f"{problem}. Their results could not be compared: restore the data or "
                "files, or start the study in another folder"
            )


def _recipe(run: Path) -> Recipe | None:
    """The recipe of a run; None where it cannot be read."""
    try:
        return Recipe.load(RunFolder(run).config)
    except (OSError, ConfigError):
        return None
