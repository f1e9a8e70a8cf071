# SPDX-License-Identifier: Apache-2.0
"""``pippin train``: one run from its recipe to its last checkpoint."""

from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any
from zlib import crc32

import torch
from rich.console import Console
from rich.markup import escape

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
from pippin.run.folder import Resume, RunFolder
from pippin.run.latents import LATENTS, check_latents, rms_line, stored_latents
from pippin.run.monitor import preview_hook, validation_hook
from pippin.run.parts import Parts
from pippin.system.files import remove_staged
from pippin.system.lock import folder_lock
from pippin.training.checkpoint import load_state, newest_good
from pippin.training.compile import compile_blocks
from pippin.training.hooks import LogHook, progress_hook
from pippin.training.log import RunLog
from pippin.training.recompute import recompute_blocks
from pippin.training.trainer import Hook, Trainer
from pippin.training.world import ALONE, World, joined

LOST_NAMED = 10
"""Own pictures named when a run starts that cannot be used."""


def train(
    recipe: Recipe, folder: Path, *, resume: Resume = False, console: Console | None = None
) -> None:
    """Train a recipe in a run folder, to its end.

    Args:
        recipe: what to train.
        folder: new, without a checkpoint yet, or with ``resume`` the folder of a stopped run of
            the same recipe.
        resume: go on from the newest checkpoint whose bytes are whole; the result is the same
            as without the stop. auto: where there is a run, else begin.

    Raises:
        ConfigError: parts that do not fit.
        ValueError: the folder is in use, holds another run, or nothing can be resumed.
        TrainingDivergedError, TrainingStoppedError: see :class:`Trainer`.
    """
    with joined(recipe.train.device) as world:
        console = console or Console(stderr=True)
        shown = console if world.first else Console(quiet=True)
        _train(recipe, RunFolder(folder), resume=resume, console=shown, world=world)


def _train(
    recipe: Recipe, run: RunFolder, *, resume: Resume, console: Console, world: World
) -> None:
    folder = run.path
    parts = Parts(recipe, console, builders_of(world))
    with ExitStack() as held:
        with world.first_alone():
            _name_lost(parts)  # before the folder is made: refused pictures leave none behind
            _count_buckets(parts)
            if world.first:
                held.enter_context(folder_lock(folder))
                run.check(recipe, resume=run.goes_on(resume))
                remove_staged(folder)
        _agree_on_pictures(parts, world)
        trainer = _trainer(parts, run, world, resume=run.goes_on(resume))
        _agree(trainer, world)
        if trainer.step_count >= trainer.total_steps:
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
            trainer.train(loader, (), _monitors(parts, None, run))
            return
        parts.say_cut_captions()
        run.record(recipe)  # only now: what cannot be built leaves the folder free
        log = RunLog(run.path, trainer.images_seen)
        with closing(log), progress_hook(run.path.name, console) as bar:
            hooks: list[Hook] = [LogHook(log, recipe.train.log_every), bar]
            trainer.train(loader, hooks, _monitors(parts, log, run))


def _name_lost(parts: Parts) -> None:
    """Say which own pictures are not trained on."""
    lost = parts.train_source.lost
    for one in lost[:LOST_NAMED]:
        parts.console.print(f"[yellow]left out:[/] {escape(one.name)}: {one.reason}")
    if len(lost) > LOST_NAMED:
        parts.console.print(
            f"[yellow]left out:[/] {len(lost)} pictures in all; `pippin data check` lists them"
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
    parts.console.print(f"buckets (pictures at height x width): {listed}")
    batch = parts.recipe.train.batch_size
    if small := [name for name, count in counts.items() if 0 < count < batch]:
        parts.console.print(
            f"[yellow]fewer pictures than train.batch_size {batch}:[/] {', '.join(small)}; a step "
            "shows some of them more than once"
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


def _trainer(parts: Parts, run: RunFolder, world: World, *, resume: bool) -> Trainer:
    """At the newest good checkpoint, at the weights that the recipe starts from, or at its own."""
    start = _newest(run, parts.console) if resume else None
    if start is not None:
        parts.given_latents = stored_latents(load_state(start), start)
        check_latents(parts.given_latents, parts.recipe.autoencoder, parts.raw_autoencoder)
    model = parts.new_model()
    with world.first_alone():  # which encodes captions where the null one is among them
        parts.set_null(model)
    lineage = begin(model, parts, run.path, report=world.first) if start is None else ()
    if start is None:
        _settle_latents(parts, world)
    trainer = build_trainer(parts, run.path, world, model, lineage)
    if start is not None:
        trainer.restore(start, verified=True)
        parts.console.print(f"resuming {run.path} at {trainer.images_seen} images")
    return trainer


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
        parts.console.print(f"[yellow]latents:[/] {escape(line)}")


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


def build_trainer(
    parts: Parts,
    folder: Path,
    world: World = ALONE,
    model: LatentDenoiser | None = None,
    lineage: tuple[dict[str, Any], ...] = (),
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
        world=world,
        facts={} if parts.latents is None else {LATENTS: parts.latents.to_dict()},
    )


def _newest(run: RunFolder, console: Console) -> Path | None:
    """The newest good checkpoint, if there is one; it is said which were passed over."""
    path, problems = newest_good(run.checkpoints)
    for problem in problems:
        console.print(f"[yellow]passed over:[/] {problem}")
    if path is None:
        console.print("no checkpoint yet: starting from image 0")
    return path


def _monitors(parts: Parts, log: RunLog | None, run: RunFolder) -> list[Hook]:
    """Validation and previews, which come after a step's checkpoint; all processes take part."""
    return [validation_hook(parts, log), preview_hook(parts, run.previews)]
