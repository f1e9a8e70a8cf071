# SPDX-License-Identifier: Apache-2.0
"""Training speed and memory of the five denoisers, beside their plans."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial

import torch
from gpu.models import (
    CLASSES,
    KINDS,
    largest_fitting,
    new_model,
    new_trainer,
    recipe_of,
    synthetic_batch,
    training_flops,
    with_training,
)
from gpu.section import Context, SectionSkippedError, Settings, Task

from pippin.bench.config import BenchConfig
from pippin.bench.measure import measure_steps
from pippin.bench.record import ModeResult, Spread
from pippin.planning.devices import DEVICES, Cluster, device_named
from pippin.planning.plan import plan
from pippin.recipes.recipe import Recipe, latent_shape_of

LARGEST_BATCH = {"xl": 128, "tiny": 4}
"""First batch size that is tried; it is halved until the memory suffices."""


@dataclass(frozen=True, kw_only=True)
class TrainingRow:
    """Training steps of one denoiser in one mode, in bf16."""

    denoiser: str
    compiled: bool
    checkpointing: int
    """Every n-th block recomputes its activations; 0 = none."""
    batch: int
    """Batch and micro-batch size."""
    images_per_second: Spread
    step_seconds: float
    mfu: float
    """FLOP/s, without recomputation, over those of a large matrix product between the windows."""
    of_data_sheet: float | None
    """The same over the peak of the data sheet; None = a device that pippin plan does not know."""
    matmul_tflops: float
    peak_memory: int
    """Bytes that torch allocated at most; on a CPU the peak resident set of the process."""
    gflops_per_image: float
    parameters: int


def measurement(settings: Settings) -> BenchConfig:
    """Windows of the measurements of a step."""
    if settings.is_xl:
        return BenchConfig(windows=3, steps=2, warmup=3)
    return BenchConfig(windows=2, steps=1, warmup=1, matmul_side=256)


def tasks(context: Context) -> Iterator[Task]:
    """Eager modes of all denoisers first: compilation takes most of the time."""
    for compiled in (False, True) if context.settings.compiled else (False,):
        for every in (0, 1):
            for kind in KINDS:
                name = f"{kind}, {'compiled' if compiled else 'eager'}, checkpointing {every}"
                run = partial(_rows, kind, compiled, every, context)
                yield Task(name=name, run=run)


def _rows(kind: str, compiled: bool, every: int, context: Context) -> Iterator[TrainingRow]:
    settings = context.settings

    def measured(batch: int) -> TrainingRow:
        recipe = recipe_of(kind, settings.size)
        recipe = with_training(recipe, settings.device, batch, compiled=compiled, every=every)
        return _measured(kind, recipe, settings)

    row = largest_fitting(first_batch(kind, every, context), measured, settings.device)
    context.fitted[kind, every] = row.batch
    yield row


def first_batch(kind: str, every: int, context: Context) -> int:
    """First batch size to try: the one that fitted a denoiser in an earlier mode."""
    return context.fitted.get((kind, every), LARGEST_BATCH[context.settings.size])


def _measured(kind: str, recipe: Recipe, settings: Settings) -> TrainingRow:
    train, shape = recipe.train, latent_shape_of(recipe)
    model = new_model(recipe, settings.device)
    trainer = new_trainer(recipe, model)
    batch = synthetic_batch(recipe, train.batch_size, settings.device)
    flops = training_flops(recipe, shape)
    mode = measure_steps(trainer, itertools.repeat(batch), measurement(settings), flops)
    if trainer.bad_steps:
        raise ValueError(f"{trainer.bad_steps} steps were not finite: their times say nothing")
    return TrainingRow(
        denoiser=kind,
        compiled=train.compile,
        checkpointing=train.gradient_checkpointing,
        batch=train.batch_size,
        images_per_second=mode.images_per_second,
        step_seconds=mode.step_seconds.median,
        mfu=mode.peak_share.median,
        of_data_sheet=_of_data_sheet(mode, flops, settings.device),
        matmul_tflops=mode.matmul_peak.median / 1e12,
        peak_memory=mode.peak_memory,
        gflops_per_image=flops / 1e9,
        parameters=sum(p.numel() for p in model.parameters()),
    )


def known_device(device: torch.device) -> str | None:
    """Name of a GPU in :data:`pippin.planning.devices.DEVICES`; None = unknown, or a CPU."""
    return device_named(torch.cuda.get_device_name(device)) if device.type == "cuda" else None


def _of_data_sheet(mode: ModeResult, flops: int, device: torch.device) -> float | None:
    name = known_device(device)
    return None if name is None else mode.images_per_second.median * flops / DEVICES[name].bf16


@dataclass(frozen=True, kw_only=True)
class PlanRow:
    """Plan of a mode beside its measurement. Compilation is not part of a plan."""

    denoiser: str
    compiled: bool
    checkpointing: int
    batch: int
    planned_memory: int
    """Bytes."""
    measured_memory: int | None
    """None on a CPU, where only the whole process can be measured."""
    memory_ratio: float | None
    """Measured over planned."""
    planned_hours: float | None
    """Hours of the whole recipe on this GPU at the plan's utilisation; None = an unknown GPU."""
    measured_hours: float
    """Hours of as many images at the measured speed."""


def plan_tasks(context: Context) -> Iterator[Task]:
    """One row for each row of the section training."""
    rows = context.rows("training")
    if not rows:
        raise SectionSkippedError("the section training measured nothing to compare plans with")
    for row in rows:
        name = f"{row.denoiser}, compiled {row.compiled}, checkpointing {row.checkpointing}"
        yield Task(name=name, run=partial(_plan_rows, row, context.settings))


def _plan_rows(row: TrainingRow, settings: Settings) -> Iterator[PlanRow]:
    device, name = settings.device, known_device(settings.device)
    recipe = recipe_of(row.denoiser, settings.size)
    recipe = with_training(
        recipe, device, row.batch, compiled=row.compiled, every=row.checkpointing
    )
    # The data of these recipes is a folder that the user gives; a plan reads none of it.
    recipe = replace(recipe, data=replace(recipe.data, path="images"))
    cluster = Cluster(devices=1) if name is None else Cluster(devices=1, device=name)
    planned = plan(
        recipe, cluster, latent_shape=latent_shape_of(recipe), num_classes=CLASSES, images=1
    ).chosen(recipe.train)
    memory = row.peak_memory if settings.is_cuda else None
    yield PlanRow(
        denoiser=row.denoiser,
        compiled=row.compiled,
        checkpointing=row.checkpointing,
        batch=row.batch,
        planned_memory=planned.memory,
        measured_memory=memory,
        memory_ratio=None if memory is None else memory / planned.memory,
        planned_hours=None if name is None else planned.hours,
        measured_hours=recipe.train.images / row.images_per_second.median / 3600,
    )
