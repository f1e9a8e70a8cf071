# SPDX-License-Identifier: Apache-2.0
"""``pippin train``: one run from its recipe to its last checkpoint."""

from collections.abc import Mapping
from contextlib import ExitStack, closing
from pathlib import Path
from shlex import quote
from typing import Any
from zlib import crc32

import torch
from rich.console import Console

from pippin.data.bucketed import bucket_pictures
from pippin.data.buckets import size_name
from pippin.data.config import OpenMojiConfig, has_buckets
from pippin.data.loader import LatentLoader
from pippin.encoders.statistics import LatentStatistics
from pippin.model import LatentDenoiser
from pippin.objective import Objective
from pippin.recipes.recipe import Recipe
from pippin.run.begin import begin
from pippin.run.builders import builders_of
from pippin.run.check_data import check_data
from pippin.run.checks import check_start
from pippin.run.folder import Resume, RunFolder
from pippin.run.given import current_inputs
from pippin.run.inputs import RunInputs, read_inputs, state_entry
from pippin.run.latents import LATENTS, check_latents, rms_line, stored_latents
from pippin.run.monitor import preview_hook, remove_later_previews, validation_hook
from pippin.run.parts import Parts
from pippin.run.places import locate, places_of
from pippin.run.resumed import (
    ResumeRequest,
    note_changes,
    refuse_other_data,
    remember_places,
    resumed_inputs,
    with_null_mask,
)
from pippin.system.files import remove_staged
from pippin.system.lock import folder_lock
from pippin.system.terminal import note
from pippin.training.checkpoint import load_state, newest_good
from pippin.training.checkpoint_folders import list_aside
from pippin.training.compile import compile_blocks
from pippin.training.hooks import Every, LogHook, progress_hook
from pippin.training.log import RunLog
from pippin.training.recompute import recompute_blocks
from pippin.training.trainer import Hook, Trainer
from pippin.training.world import ALONE, World, joined

LOST_NAMED = 10
"""Own pictures named when a run starts that cannot be used."""


def train(
    recipe: Recipe,
    folder: Path,
    *,
    resume: Resume = False,
    console: Console | None = None,
    allow_changed_data: bool = False,
    places: Mapping[str, str] | None = None,
) -> None:
    """Train a recipe in a run folder, to its end.

    Args:
        recipe: what to train.
        folder: new, without a checkpoint yet, or with ``resume`` the folder of a stopped run of
            the same recipe.
        resume: go on from the newest checkpoint whose bytes are whole; the result is the same
            as without the stop. auto: where there is a run, else begin.
        console: for messages.
        allow_changed_data: resume also where images or captions are not those that the run was
            trained on; its record says so from then on.
        places: setting -> path, of settings that were recorded elsewhere and are still the same:
            the ``places`` of :class:`pippin.run.inputs.RunInputs`.

    Raises:
        ConfigError: parts that do not fit.
        ValueError: the folder is in use, holds another run, nothing can be resumed, or a run would
            be resumed on other data, or other classes.
        TrainingDivergedError, TrainingStoppedError: see :class:`Trainer`.
    """
    with joined(recipe.train.device) as world:
        console = console or Console(stderr=True)
        shown = console if world.first else Console(quiet=True)
        run = RunFolder(folder)
        own = read_inputs(folder) if run.config.exists() else None
        known = [places or {}, places_of(recipe), own.places if own else {}]
        parts = Parts(recipe, shown, builders_of(world), located=locate(recipe, *known))
        if not run.goes_on(resume):
            check_start(recipe)
        request = ResumeRequest(resume=resume, allow_changed_data=allow_changed_data)
        _train(parts, run, request, world)


def _train(parts: Parts, run: RunFolder, request: ResumeRequest, world: World) -> None:
    recipe, folder, console = parts.recipe, run.path, parts.console
    with ExitStack() as held:
        with world.first_alone():
            _name_lost(parts)  # before the folder is made: refused pictures leave none behind
            _count_buckets(parts)
            check_data(parts, resumed=run.goes_on(request.resume))
            if world.first:
                held.enter_context(folder_lock(folder))
                run.check(recipe, resume=run.goes_on(request.resume))
                remove_staged(folder)
                remove_staged(run.previews)
        _agree_on_pictures(parts, world)
        trainer, inputs = _trainer(parts, run, world, request)
        _agree(trainer, world)
        monitors = _monitors(parts, None, run)
        missed = [isinstance(one, Every) and one.missed(trainer) for one in monitors]
        if trainer.step_count >= trainer.total_steps and not any(missed):
            if world.first:
                remember_places(run, inputs)
            return
        loader = LatentLoader(
            parts.moments,
            parts.autoencoder,
            batch_size=recipe.train.batch_size,
            seed=recipe.seed,
            start_image=trainer.images_seen,
            workers=recipe.train.workers,
            rank=world.rank,
            world_size=world.size,
            device=parts.device,
            captions=parts.captions,
        )
        if not world.first:
            _catch_up(trainer, monitors, missed)
            trainer.train(loader, (), monitors)
            return
        parts.say_cut_captions()
        run.record(recipe, inputs)  # only now: what cannot be built leaves the folder free
        remove_later_previews(run.previews, trainer.images_seen)
        log = RunLog(run.path, trainer.images_seen)
        note_changes(log, inputs, trainer.images_seen)
        with closing(log), progress_hook(run.path.name, console) as bar:
            hooks: list[Hook] = [LogHook(log, recipe.train.log_every), bar]
            monitors = _monitors(parts, log, run)
            _catch_up(trainer, monitors, missed)
            trainer.train(loader, hooks, monitors)


def _name_lost(parts: Parts) -> None:
    """Say which own pictures are not trained on."""
    lost = parts.train_source.lost
    for one in lost[:LOST_NAMED]:
        note(parts.console, f"{one.name}: {one.reason}", label="skipped:")
    if len(lost) > LOST_NAMED:
        note(
            parts.console,
            f"{len(lost)} images in total; `pippin data check` lists them",
            label="skipped:",
        )


def _count_buckets(parts: Parts) -> None:
    """Say how many pictures are trained on at each size."""
    if not has_buckets(parts.data):
        return
    counts = {
        size_name(size): len(pictures)
        for size, pictures in bucket_pictures(parts.train_source).items()
    }
    listed = ", ".join(f"{count} at {name}" for name, count in counts.items())
    note(parts.console, f"buckets (images at height x width): {listed}")
    batch = parts.recipe.train.batch_size
    if small := [name for name, count in counts.items() if 0 < count < batch]:
        note(
            parts.console,
            f"{', '.join(small)}; a step shows some of them more than once",
            label=f"fewer pictures than train.batch_size {batch}:",
        )


def _agree_on_pictures(parts: Parts, world: World) -> None:
    """Refuse processes of which some could read pictures that others could not."""
    if world.size == 1:
        return
    source = parts.train_source
    found = f"{source.source_hash()} {sorted(one.name for one in source.lost)}"
    mine = crc32(found.encode())  # 32 bits: sums of them are exact
    if not _all_have(mine, world, parts.device):
        raise ValueError(
            f"process {world.rank} found {len(source)} pictures to train on and lost "
            f"{len(source.lost)}, others found other ones: all must see one folder with one "
            "version of Pillow (or of the renderer of embedded pictures), and a disk or network "
            "that failed for one of them must be whole again (`pippin data check`)"
        )


def _agree(trainer: Trainer, world: World) -> None:
    """Refuse processes that would go on from different places."""
    mine = trainer.step_count
    if not _all_have(mine, world, trainer.device):
        raise ValueError(
            f"process {world.rank} would go on from step {mine}, others from elsewhere: all "
            "machines must see one run folder"
        )


def _all_have(number: int, world: World, device: torch.device) -> bool:
    """Whether all processes have the number, of 32 bits at most; where they have not, it is no in
    one of them at least."""
    total = world.sum(torch.tensor([float(number)], device=device, dtype=torch.float64))
    return total.item() == world.size * number


def _trainer(
    parts: Parts, run: RunFolder, world: World, request: ResumeRequest
) -> tuple[Trainer, RunInputs]:
    """At the newest good checkpoint, at the weights that the recipe starts from, or at its own;
    and what the run is given beside its settings."""
    start = _newest(run, parts.console) if run.goes_on(request.resume) else None
    with world.first_alone():  # which fetches encoders that are not here yet
        inputs = current_inputs(parts)
    refuse_other_data(run.path, parts.recipe, inputs)
    if start is not None:
        inputs = resumed_inputs(parts, run, start, inputs, request)
        parts.given_latents = stored_latents(load_state(start), start)
        check_latents(parts.given_latents, parts.recipe.autoencoder, parts.raw_autoencoder)
    model = parts.new_model()
    with world.first_alone():  # which encodes captions where the null one is among them
        parts.set_null(model)
    lineage = begin(model, parts, run.path, report=world.first) if start is None else ()
    if start is None:
        _settle_latents(parts, world)
    inputs = with_null_mask(inputs, model)
    trainer = build_trainer(parts, run.path, world, model, lineage, state_entry(inputs))
    if start is not None:
        trainer.restore(start, verified=True)
        note(parts.console, f"resuming {run.path} at {trainer.images_seen} images")
    return trainer, inputs


def _settle_latents(parts: Parts, world: World) -> None:
    """Measure the latents of a sample of custom images when a run begins: to normalise by that, or
    to say what other numbers make of them."""
    measured = parts.recipe.autoencoder.normalisation == "measured"
    if not measured and isinstance(parts.data, OpenMojiConfig):
        return
    _ = parts.moments  # which all processes build together
    if measured and parts.given_latents is None and world.size > 1:
        _share_latents(parts, world)
    if not world.first:
        return
    try:
        found = parts.measured_latents
    except ValueError:
        if measured and parts.given_latents is None:
            raise
        return  # what is the same in all images can be trained on by other numbers
    own, source = parts.raw_autoencoder, parts.recipe.autoencoder.source
    if line := rms_line(found, parts.latents, own, source):
        note(parts.console, line, label="latents:")


def _share_latents(parts: Parts, world: World) -> None:
    """Give all processes the numbers that the first one measured, to the last bit."""
    channels = parts.latent_shape[0]
    numbers = torch.zeros(2 * channels + 1, dtype=torch.float64)
    if world.first:
        own = parts.measured_latents
        numbers = torch.tensor([*own.mean, *own.std, own.images], dtype=torch.float64)
    *both, images = world.sum(numbers.to(parts.device)).tolist()
    parts.given_latents = LatentStatistics(
        mean=tuple(both[:channels]),
        std=tuple(both[channels:]),
        images=int(images),
        autoencoder=parts.raw_autoencoder.fingerprint,
    )


def _latent_facts(parts: Parts) -> dict[str, Any]:
    return {} if parts.latents is None else {LATENTS: parts.latents.to_dict()}


def build_trainer(
    parts: Parts,
    folder: Path,
    world: World = ALONE,
    model: LatentDenoiser | None = None,
    lineage: tuple[dict[str, Any], ...] = (),
    record: Mapping[str, Any] | None = None,
) -> Trainer:
    """A trainer at image 0; without a model, one whose weights the recipe's seed draws."""
    recipe = parts.recipe
    if model is None:
        model = parts.model_with_null()
    recompute_blocks(model.denoiser.blocks, recipe.train.gradient_checkpointing)
    if recipe.train.compile:
        compile_blocks(recipe.denoiser, model.denoiser.blocks)
    return Trainer(
        model,
        Objective(recipe.diffusion),
        recipe.conditioning,
        recipe.train,
        seed=recipe.seed,
        folder=folder,
        lineage=lineage,
        record={**(record or {}), **_latent_facts(parts)},
        world=world,
    )


def _newest(run: RunFolder, console: Console) -> Path | None:
    """The newest good checkpoint, or None before the first; it is said which were passed over.

    Raises:
        ValueError: there are checkpoints, and all are damaged.
    """
    path, problems = newest_good(run.checkpoints)
    problems += [
        f"{one}: kept, but not used (rm -r {quote(str(one))} removes it)"
        for one in list_aside(run.checkpoints)
    ]
    if path is None and problems:
        listed = "".join(f"\n  {problem}" for problem in problems)
        raise ValueError(
            f"no checkpoint in {run.checkpoints} is whole, so the run cannot be resumed:{listed}\n"
            "put a whole one back. To start over from image 0, move them away: mv "
            f"{quote(str(run.checkpoints))} {quote(f'{run.checkpoints}.damaged')}, and give the "
            "same command again"
        )
    for problem in problems:
        note(console, problem, label="skipped checkpoint:")
    if path is None:
        note(console, "no checkpoint yet: starting from image 0")
    return path


def _monitors(parts: Parts, log: RunLog | None, run: RunFolder) -> list[Hook]:
    """Validation and previews, which come after a step's checkpoint; all processes take part."""
    return [validation_hook(parts, log, run.log), preview_hook(parts, run.previews)]


def _catch_up(trainer: Trainer, monitors: list[Hook], missed: list[bool]) -> None:
    """Do what a kill between a checkpoint and its validation or preview has left out."""
    for monitor, lacks in zip(monitors, missed, strict=True):
        if lacks and isinstance(monitor, Every):
            monitor.act(trainer)
