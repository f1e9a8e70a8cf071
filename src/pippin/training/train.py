# SPDX-License-Identifier: Apache-2.0
"""``pippin train``: start or resume a run, and train it to its last checkpoint."""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any
from zlib import crc32

import torch
from rich.console import Console

from pippin.data.config import NoDataConfig, OpenMojiConfig, has_buckets
from pippin.data.loader import LatentLoader
from pippin.data.moments import bucket_image_indices
from pippin.data.views.buckets import size_name
from pippin.distributed.world import SINGLE_RANK, World, distributed_world
from pippin.encoders.statistics import LatentStatistics
from pippin.model import LatentDenoiser
from pippin.objective.losses import Objective
from pippin.recipes.checks import check_start
from pippin.recipes.recipe import Recipe
from pippin.runs.checkpoint_state import load_state
from pippin.runs.components import Components
from pippin.runs.data.check_data import BeforeStart, check_data
from pippin.runs.folder import Resume, RunFolder, locate, resolved_paths
from pippin.runs.inputs import RunInputs, read_inputs, state_entry
from pippin.runs.latents import LATENTS, check_latents, rms_note, stored_latents
from pippin.runs.prepare import builders_of
from pippin.runs.provenance import current_inputs
from pippin.runs.storage.average_snapshots import remove_later_snapshots
from pippin.system.compiled_code import keep_compiled_code
from pippin.system.files import remove_temporary_files
from pippin.system.lock import folder_lock
from pippin.system.text import print_above_progress
from pippin.training.blocks import checkpoint_blocks, compile_blocks
from pippin.training.callbacks import Callback, Callbacks, RunStart
from pippin.training.initial_weights import load_initial_weights
from pippin.training.log import RunLog
from pippin.training.loop import Trainer
from pippin.training.monitor import Periodic
from pippin.training.muon import unused_precision
from pippin.training.preview_prompts import check_preview_prompts, encode_preview_prompts
from pippin.training.progress import TrainingProgress, print_header
from pippin.training.quality import check_quality, quality_monitor
from pippin.training.repa.features import (
    build_encoder,
    moments_with_features,
    recorded_encoder,
    refuse_other_encoder,
)
from pippin.training.repa.projector import add_projector, feature_width
from pippin.training.resume import (
    ResumeRequest,
    note_changes,
    refuse_other_data,
    resumed_checkpoint,
    resumed_inputs,
    update_recorded_paths,
    with_null_mask,
)
from pippin.training.snapshots import SnapshotMonitor
from pippin.training.trackers import build_tracker, check_tracker
from pippin.training.validation import preview_monitor, remove_later_previews, validation_monitor

MAX_NAMED_SKIPPED = 10
"""Number of skipped images that are named when a run starts."""


def train(
    recipe: Recipe,
    folder: Path,
    *,
    resume: Resume = False,
    console: Console | None = None,
    allow_changed_data: bool = False,
    places: Mapping[str, str] | None = None,
    callbacks: Sequence[Callback] = (),
    before: BeforeStart | None = None,
) -> None:
    """Train a recipe in a run folder, to its end.

    Args:
        recipe: what to train.
        folder: new, without a checkpoint yet, or with ``resume`` the folder of an interrupted run
            of the same recipe.
        resume: resume from the newest intact checkpoint; the result equals that of an
            uninterrupted run. auto: resume where there is a run, otherwise start one.
        console: for messages.
        allow_changed_data: resume even where images or captions differ from those that the run was
            trained on; its record says so from then on.
        places: setting -> path, of settings that were recorded elsewhere and are unchanged:
            the ``places`` of :class:`pippin.runs.inputs.RunInputs`.
        callbacks: called on rank 0 while training, see :class:`Callback`.
        before: checks that rank 0 makes before anything is read or written.

    Raises:
        ConfigError: settings that do not fit, or a tracker that is not installed.
        ValueError: the folder is in use or holds another run, there is nothing to resume, or a
            run would resume on other data or other classes.
        TrainingDivergedError, TrainingStoppedError: see :class:`Trainer`.
    """
    with distributed_world(recipe.train.device) as world:
        check_preview_prompts(recipe)
        console = console or Console(stderr=True)
        rank_console = console if world.is_rank0 else Console(quiet=True)
        run = RunFolder(folder)
        own = read_inputs(folder) if run.config.exists() else None
        candidates = [places or {}, resolved_paths(recipe), own.places if own else {}]
        located = locate(recipe, *candidates)
        with world.rank0_first():
            if before is not None and world.is_rank0:
                before(recipe, located)
        components = Components(recipe, rank_console, builders_of(world), located=located)
        if not run.resumes(resume):
            check_start(recipe)
        request = ResumeRequest(resume=resume, allow_changed_data=allow_changed_data)
        _train(components, run, request, world, Callbacks(callbacks))


def _train(
    components: Components,
    run: RunFolder,
    request: ResumeRequest,
    world: World,
    callbacks: Callbacks,
) -> None:
    recipe, folder, console = components.recipe, run.path, components.console
    with ExitStack() as locks:
        with world.rank0_first():
            if world.is_rank0:
                check_tracker(recipe.train.tracker)
                check_quality(components)
            _log_skipped_images(components)  # before the folder is made: an error leaves no folder
            _log_buckets(components)
            check_data(components, resumed=run.resumes(request.resume))
            if world.is_rank0:
                locks.enter_context(folder_lock(folder))
                run.check(recipe, resume=run.resumes(request.resume))
                print_header(components, run, world)
                remove_temporary_files(folder)
                remove_temporary_files(run.previews)
                remove_temporary_files(run.snapshots)
        _check_same_images(components, world)
        trainer, inputs = _prepare_trainer(components, run, world, request)
        if trainer.sharded:
            print_above_progress(console, "every rank writes its shards", label="checkpoints:")
        monitors = _monitors(components, None, run)
        missed = [trainer.is_missing(monitor) for monitor in monitors]
        if trainer.finished and not any(missed):
            if world.is_rank0:
                update_recorded_paths(run, inputs)
            return
        loader = _loader(components, trainer, world)
        if not world.is_rank0:
            _run_missed(trainer, monitors, missed)
            trainer.train(loader, monitors=monitors)
            return
        components.warn_truncated_captions()
        encode_preview_prompts(components)
        run.record(recipe, inputs)  # only now, so that an earlier error leaves the folder free
        remove_later_previews(run, trainer.images_seen)
        remove_later_snapshots(run.snapshots, trainer.images_seen)
        own = (
            TrainingProgress(console),
            build_tracker(recipe.train.tracker, run.path, trainer.images_seen, console),
        )
        log = RunLog(run.path, trainer.images_seen, [*own, *callbacks.callbacks])
        note_changes(log, inputs, trainer.images_seen)
        with closing(log), log.callbacks.running(_start(trainer, recipe, run)):
            monitors = _monitors(components, log, run)
            _run_missed(trainer, monitors, missed)
            trainer.train(loader, [log.callbacks.step], monitors, log)


def _loader(components: Components, trainer: Trainer, world: World) -> LatentLoader:
    recipe, moments = components.recipe, components.moments
    if recipe.train.repa.enabled:
        encoder = build_encoder(components.located.train.repa, components.device)
        refuse_other_encoder(trainer.record, encoder.fingerprint)
        moments = moments_with_features(components, encoder)
    return LatentLoader(
        moments,
        components.autoencoder,
        batch_size=recipe.train.batch_size,
        seed=recipe.seed,
        start_image=trainer.images_seen,
        workers=recipe.train.workers,
        rank=world.rank,
        world_size=world.size,
        device=components.device,
        captions=components.captions,
    )


def _start(trainer: Trainer, recipe: Recipe, run: RunFolder) -> RunStart:
    return RunStart(
        recipe=recipe,
        folder=run.path,
        images_seen=trainer.images_seen,
        images=trainer.total_steps * recipe.train.batch_size,
        parameters=sum(parameter.numel() for parameter in trainer.model.parameters()),
        world_size=trainer.world.size,
    )


def _log_skipped_images(components: Components) -> None:
    """Log which images of a custom data set are skipped."""
    skipped = components.train_source.skipped
    for image in skipped[:MAX_NAMED_SKIPPED]:
        print_above_progress(components.console, f"{image.name}: {image.reason}", label="skipped:")
    if len(skipped) > MAX_NAMED_SKIPPED:
        print_above_progress(
            components.console,
            f"{len(skipped)} images in total; `pippin data check` lists them",
            label="skipped:",
        )


def _log_buckets(components: Components) -> None:
    """Log the number of training images in each bucket."""
    if not has_buckets(components.data):
        return
    counts = {
        size_name(size): len(images)
        for size, images in bucket_image_indices(components.train_source).items()
    }
    listed = ", ".join(f"{count} at {name}" for name, count in counts.items())
    print_above_progress(components.console, f"buckets (images at height x width): {listed}")
    batch = components.recipe.train.batch_size
    if small := [name for name, count in counts.items() if 0 < count < batch]:
        print_above_progress(
            components.console,
            f"{', '.join(small)}; a step shows some of them more than once",
            label=f"fewer images than train.batch_size {batch}:",
        )


def _check_same_images(components: Components, world: World) -> None:
    """Refuse ranks that do not see the same images."""
    if world.size == 1:
        return
    source = components.train_source
    description = f"{source.source_hash()} {sorted(image.name for image in source.skipped)}"
    checksum = crc32(description.encode())  # 32 bits: sums of them are exact
    if not _all_equal(checksum, world, components.device):
        raise ValueError(
            f"rank {world.rank} found {len(source)} training images and skipped "
            f"{len(source.skipped)}; other ranks found other images: all must see one folder with "
            "one version of Pillow (or of the renderer of embedded images), and a disk or network "
            "that failed for one of them must work again (`pippin data check`)"
        )


def _all_equal(number: int, world: World, device: torch.device) -> bool:
    """Whether all ranks have the same number, of 32 bits at most; otherwise the result is False on
    at least one of them."""
    if world.size == 1:
        return True
    total = world.all_reduce_sum(torch.tensor([float(number)], device=device, dtype=torch.float64))
    return total.item() == world.size * number


def _prepare_trainer(
    components: Components, run: RunFolder, world: World, request: ResumeRequest
) -> tuple[Trainer, RunInputs]:
    """A trainer at the newest good checkpoint, with the weights that the recipe starts from, or
    with initial weights; and the run's inputs."""
    start = resumed_checkpoint(run, request, components.console, world)
    with world.rank0_first():  # rank 0 downloads missing encoders
        inputs = current_inputs(components)
    refuse_other_data(run.path, components.recipe, inputs)
    if start is not None:
        inputs = resumed_inputs(components, run, start, inputs, request)
        components.given_latents = stored_latents(load_state(start), start)
        check_latents(
            components.given_latents, components.recipe.autoencoder, components.raw_autoencoder
        )
    model = components.new_model()
    with world.rank0_first():  # rank 0 encodes captions, the null caption among them
        components.set_null(model)
    lineage: tuple[dict[str, Any], ...] = ()
    if start is None:
        lineage = load_initial_weights(model, components, run.path, report=world.is_rank0)
        _prepare_latent_statistics(components, world)
    inputs = with_null_mask(inputs, model)
    record = state_entry(inputs) | recorded_encoder(start)
    trainer = build_trainer(components, run.path, world, model, lineage, record)
    precision = components.recipe.train.muon_precision
    if note := unused_precision(precision, trainer.optimizers, world.size):
        print_above_progress(components.console, note)
    if start is not None:
        trainer.restore(start, verified=True)
        print_above_progress(
            components.console, f"resuming {run.path} at {trainer.images_seen} images"
        )
    return trainer, inputs


def _prepare_latent_statistics(components: Components, world: World) -> None:
    """Measure the latents of a sample of a custom data set at the start of a run: to normalise
    with the result, or to log how other statistics fit."""
    measured = components.recipe.autoencoder.normalisation == "measured"
    if not measured and isinstance(components.data, OpenMojiConfig):
        return
    _ = components.moments  # all ranks build the cache together
    if measured and components.given_latents is None and world.size > 1:
        _broadcast_latents(components, world)
    if not world.is_rank0:
        return
    try:
        statistics = components.measured_latents
    except ValueError:
        if measured and components.given_latents is None:
            raise
        return  # latents without variance can be trained on with other statistics
    own, source = components.raw_autoencoder, components.recipe.autoencoder.source
    if line := rms_note(statistics, components.latents, own, source):
        print_above_progress(components.console, line, label="latents:")


def _broadcast_latents(components: Components, world: World) -> None:
    """Send the statistics that rank 0 measured to all ranks, bit for bit."""
    channels = components.latent_shape[0]
    numbers = torch.zeros(2 * channels + 1, dtype=torch.float64)
    if world.is_rank0:
        own = components.measured_latents
        numbers = torch.tensor([*own.mean, *own.std, own.images], dtype=torch.float64)
    *both, images = world.all_reduce_sum(numbers.to(components.device)).tolist()
    components.given_latents = LatentStatistics(
        mean=tuple(both[:channels]),
        std=tuple(both[channels:]),
        images=int(images),
        autoencoder=components.raw_autoencoder.fingerprint,
    )


def _latent_facts(components: Components) -> dict[str, Any]:
    return {} if components.latents is None else {LATENTS: components.latents.to_dict()}


def build_trainer(
    components: Components,
    folder: Path,
    world: World = SINGLE_RANK,
    model: LatentDenoiser | None = None,
    lineage: tuple[dict[str, Any], ...] = (),
    record: Mapping[str, Any] | None = None,
) -> Trainer:
    """Build a trainer at image 0; without a model, one with weights from the recipe's seed."""
    recipe = components.recipe
    if model is None:
        model = components.model_with_null()
    if recipe.train.repa.enabled:
        repa = components.located.train.repa
        add_projector(model, repa, feature_width(repa), recipe.seed)
    checkpoint_blocks(model.denoiser.blocks, recipe.train.gradient_checkpointing)
    if recipe.train.compile:
        keep_compiled_code(Path(components.located.cache.folder))
        compile_blocks(recipe.denoiser, model.denoiser.blocks, num_shapes=_num_shapes(recipe))
    return Trainer(
        model,
        Objective(recipe.diffusion),
        recipe.conditioning,
        recipe.train,
        seed=recipe.seed,
        folder=folder,
        lineage=lineage,
        record={**(record or {}), **_latent_facts(components)},
        world=world,
    )


def _num_shapes(recipe: Recipe) -> int:
    """Number of shapes of training latents."""
    return 1 if isinstance(recipe.data, NoDataConfig) else len(recipe.data.view_sizes)


def _monitors(components: Components, log: RunLog | None, run: RunFolder) -> list[Periodic]:
    """Snapshots, validation, previews and sample quality, which run after a step's checkpoint; all
    ranks take part."""
    return [
        SnapshotMonitor.of(components.recipe.train, run.snapshots),
        validation_monitor(components, log, run.log),
        preview_monitor(components, run, log),
        quality_monitor(components, log, run.log),
    ]


def _run_missed(trainer: Trainer, monitors: list[Periodic], missed: list[bool]) -> None:
    """Run the monitors that a kill after the checkpoint prevented."""
    for monitor, is_missed in zip(monitors, missed, strict=True):
        if is_missed:
            trainer.run_monitor(monitor)
