# SPDX-License-Identifier: Apache-2.0
"""Waiting for data: a DiT trained from a latent cache of the embedded images on the disk."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial

import torch
from gpu.models import new_model, new_trainer, recipe_of, training_flops, with_training
from gpu.section import Context, Task
from gpu.training import first_batch, measurement
from rich.console import Console

from pippin.bench.measure import measure_steps, new_batches
from pippin.bench.record import Spread
from pippin.bench.timer import synchronise
from pippin.data.config import OpenMojiConfig
from pippin.recipes.recipe import Recipe
from pippin.recipes.table import get_recipe
from pippin.runs.components import Components
from pippin.training.loop import Trainer
from pippin.training.prefetch import Prefetcher
from pippin.types import Batch

WORKERS = (0, 4)


@dataclass(frozen=True, kw_only=True)
class LoaderRow:
    """Loading beside training, with one number of worker processes."""

    workers: int
    batch: int
    loader_alone: float
    """Images/s of the loader without training."""
    images_per_second: Spread
    """Training, each step fetching its own batch."""
    wait_share: float
    """Share of a step that waits for its own batch."""
    prefetched_wait_share: float
    """Share of a step in which the device waits while batches are prefetched, as in training."""


def tasks(context: Context) -> Iterator[Task]:
    """Loading in the training process, and in processes of its own."""
    for workers in WORKERS if context.settings.is_xl else WORKERS[:1]:
        yield Task(name=f"{workers} workers", run=partial(_rows, workers, context))


def _rows(workers: int, context: Context) -> Iterator[LoaderRow]:
    settings = context.settings
    batch = first_batch("dit", 0, context)
    recipe = with_training(_cached_recipe(context), settings.device, batch)
    recipe = replace(recipe, train=replace(recipe.train, workers=workers))
    components = Components(recipe, Console(quiet=True))
    shape, classes = components.latent_shape, components.num_classes
    flops = training_flops(recipe, shape, classes)
    trainer = new_trainer(recipe, new_model(recipe, settings.device, classes, shape[0]))
    mode = measure_steps(trainer, new_batches(components), measurement(settings), flops)
    steps = 10 if settings.is_xl else 2
    yield LoaderRow(
        workers=workers,
        batch=batch,
        loader_alone=_images_per_second(new_batches(components), batch, steps, settings.device),
        images_per_second=mode.images_per_second,
        wait_share=mode.parts["wait"].median / sum(p.median for p in mode.parts.values()),
        prefetched_wait_share=_prefetched_share(trainer, new_batches(components), steps),
    )


def _cached_recipe(context: Context) -> Recipe:
    """DiT of the checked size on a few embedded images, with latents of 32 x 32 at XL."""
    settings = context.settings
    recipe, denoiser = get_recipe("openmoji/dit-entangled"), recipe_of("dit", settings.size)
    assert isinstance(recipe.data, OpenMojiConfig)
    resolution, images = (128, 512) if settings.is_xl else (32, 24)
    return replace(
        recipe,
        data=OpenMojiConfig(resolution=resolution, views=1, max_pictures=images),
        denoiser=denoiser.denoiser,
        cache=replace(recipe.cache, folder=str(context.folder / "caches")),
    )


def _images_per_second(
    batches: Iterator[Batch], batch: int, steps: int, device: torch.device
) -> float:
    next(batches)
    synchronise(device)
    start = time.perf_counter()
    for _ in range(steps):
        next(batches)
    synchronise(device)
    return steps * batch / (time.perf_counter() - start)


def _prefetched_share(trainer: Trainer, batches: Iterator[Batch], steps: int) -> float:
    """Share of the steps in which the device waits for data or random numbers."""

    def computing() -> bool:
        cuda = trainer.device.type == "cuda"
        return cuda and not torch.cuda.current_stream(trainer.device).query()

    prefetcher = Prefetcher(batches, computing)
    waited = total = 0.0
    for step in range(steps + 1):
        batch, seconds = prefetcher.take()
        record = trainer.step(batch, prefetcher, seconds)
        if step:  # nothing was prefetched for the first
            waited += record.data_seconds
            total += record.step_seconds
    return waited / total
