# SPDX-License-Identifier: Apache-2.0
"""Training throughput of a recipe with the real loader and trainer, in windows."""

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Int
from rich.console import Console
from torch import Tensor

from pippin.bench.config import BenchConfig
from pippin.bench.record import BenchRecord, ModeResult, Spread
from pippin.bench.timer import (
    Timer,
    machine,
    matmul_peak,
    peak_memory,
    reset_peak_memory,
    synchronise,
)
from pippin.config import ConfigError, protocol
from pippin.control import Control, Corner, Size
from pippin.data.config import check_squares
from pippin.data.loader import LatentLoader
from pippin.data.moments import MomentBatch, check_range
from pippin.evaluation.metrics.cost import meta_model, training_flops
from pippin.recipes.recipe import Recipe
from pippin.runs.components import Components
from pippin.system.heap import retained_heap
from pippin.system.installation import environment
from pippin.training.loop import Trainer, untimed
from pippin.training.train import build_trainer
from pippin.types import Batch, Moments, stack_controls

CONTROL = Control(
    original_size=Size(256, 256), crop_corner=Corner(0, 0), crop_size=Size(256, 256), flip=False
)


class SyntheticMoments:
    """Random moments with the interface of a latent cache.

    Args:
        latent_shape: (channels, height, width).
        num_classes: labels cycle through them.
        num_images: length of an epoch.
    """

    num_views = 1

    def __init__(
        self, latent_shape: tuple[int, int, int], num_classes: int, num_images: int
    ) -> None:
        draws = torch.Generator().manual_seed(0)
        self._mean = torch.randn(num_images, *latent_shape, generator=draws)
        self._label = torch.arange(num_images) % num_classes

    def __len__(self) -> int:
        """Number of images in one epoch."""
        return len(self._mean)

    def fetch(self, indices: Int[Tensor, " batch"], views: Int[Tensor, " batch"]) -> MomentBatch:
        """See :class:`pippin.data.moments.MomentSource`."""
        check_range("image index", indices, len(self))
        check_range("view", views, self.num_views)
        mean = self._mean[indices]
        return MomentBatch(
            moments=Moments(mean=mean, std=torch.full_like(mean, 0.1)),
            control=stack_controls([CONTROL] * len(indices)),
            label=self._label[indices],
        )


PARTS = ("wait", "draw", "forward", "backward", "optimizer", "ema")
"""Parts of a step: waiting for the batch; random numbers; noising, conditioning, model and loss;
backward pass; clipping and optimizer; EMA."""


def bench(recipe: Recipe, name: str, config: BenchConfig, console: Console) -> BenchRecord:
    """Measure every mode of ``config``.

    Args:
        recipe: recipe to train; each mode replaces its precision and compile.
        name: name of the recipe, for the record.
        config: modes and windows.
        console: console for progress.
    """
    if config.threads:
        torch.set_num_threads(config.threads)
    components = _components(recipe, config, console)
    classes, channels = len(components.train_source.class_names), components.latent_shape[0]
    model = meta_model(recipe.conditioning, recipe.denoiser, classes, channels)
    # a bench measures the first steps of a run, which mask
    masking = replace(recipe.train.masking, unmasked_share=0.0)
    flops = training_flops(
        model, components.latent_shape, masking=masking, meanflow=recipe.diffusion.meanflow
    )
    with console.status("loader alone"):
        loader = _loader_speed(components, config)
    modes = []
    for compiled in (False, True) if config.compile else (False,):
        for precision in config.precisions:
            train = replace(recipe.train, precision=precision, compile=compiled)
            components.recipe = replace(recipe, train=train)
            status = console.status(f"{precision} {'compiled' if compiled else 'eager'}")
            with status, retained_heap(components.device):  # as while training
                modes.append(_mode(components, config, flops))
    return BenchRecord(
        recipe=name,
        versions=environment(),
        machine=machine(components.device),
        settings=_settings(recipe, config),
        step_flops=flops,
        loader=loader,
        modes=tuple(modes),
    )


def _components(recipe: Recipe, config: BenchConfig, console: Console) -> Components:
    if recipe.train.repa.enabled:
        raise ConfigError(
            "pippin bench measures no REPA; got train.repa.encoder "
            f"{recipe.train.repa.encoder}: set --train.repa.encoder none"
        )
    components = Components(recipe, console)
    if config.data == "recipe":
        check_squares(recipe.data, "pippin bench, which counts the FLOPs of one shape,")
    else:
        source = components.train_source
        num_images, classes = min(len(source), 1024), len(source.class_names)
        components.moments = SyntheticMoments(components.latent_shape, classes, num_images)
    return components


def _settings(recipe: Recipe, config: BenchConfig) -> dict[str, Any]:
    """All settings that determine the work of a step, except the modes."""
    own = {f"bench.{name}": getattr(config, name) for name in ("data", "steps", "matmul_side")}
    train = recipe.train
    work = {
        "train.workers": train.workers,
        "train.muon_gram": train.muon_gram,
        "train.muon_precision": train.muon_precision,
        "train.gradient_checkpointing": train.gradient_checkpointing,
        "train.micro_batch_size": train.micro_batch_size,
        "cache.enabled": recipe.cache.enabled,
    }
    settings = protocol(recipe) | own | work
    return {path: value for path, value in settings.items() if path != "train.precision"}


def new_batches(components: Components) -> Iterator[Batch]:
    """Batches of a recipe's own loader, without end."""
    train = components.recipe.train
    return iter(
        LatentLoader(
            components.moments,
            components.autoencoder,
            batch_size=train.batch_size,
            seed=components.recipe.seed,
            workers=train.workers,
            device=components.device,
            captions=components.captions,
        )
    )


def _loader_speed(components: Components, config: BenchConfig) -> Spread:
    """Images/s of the loader alone, without training."""
    batches, batch_size = new_batches(components), components.recipe.train.batch_size
    next(batches)
    speeds = []
    for _ in range(config.windows):
        synchronise(components.device)
        start = time.perf_counter()
        for _ in range(config.steps):
            next(batches)
        synchronise(components.device)
        speeds.append(config.steps * batch_size / (time.perf_counter() - start))
    return Spread.over(speeds)


def _mode(components: Components, config: BenchConfig, flops: int) -> ModeResult:
    trainer = build_trainer(components, Path("unused"))  # only checkpoints would create it
    trainer.model.train()
    return measure_steps(trainer, new_batches(components), config, flops)


def measure_steps(
    trainer: Trainer, batches: Iterator[Batch], config: BenchConfig, flops: int
) -> ModeResult:
    """Measure a trainer's steps in windows, after a warm-up.

    Args:
        trainer: at any step, its model in training mode.
        batches: endless, each of the trainer's batch size.
        config: windows, steps, warm-up and matrices of the peak; the trainer decides the rest.
        flops: FLOPs of the denoiser, forward and backward, for one image.
    """
    train, device = trainer.config, trainer.device
    for _ in range(config.warmup):
        trainer.step(next(batches))
    seconds: list[float] = []
    part_seconds: list[dict[str, float]] = []
    peaks: list[float] = []
    memory = 0
    for _ in range(config.windows):
        reset_peak_memory(device)
        seconds.append(_window(trainer, batches, config.steps))
        part_seconds.append(_timed_parts(trainer, batches, config.steps))
        memory = max(memory, peak_memory(device))
        peaks.append(matmul_peak(device, train.precision, config.matmul_side))
    work = flops * train.batch_size
    return ModeResult(
        precision=train.precision,
        compiled=train.compile,
        images_per_second=Spread.over([train.batch_size / s for s in seconds]),
        step_seconds=Spread.over(seconds),
        parts={name: Spread.over([window[name] for window in part_seconds]) for name in PARTS},
        matmul_peak=Spread.over(peaks),
        peak_share=Spread.over([work / s / p for s, p in zip(seconds, peaks, strict=True)]),
        peak_memory=memory,
    )


def _window(trainer: Trainer, batches: Iterator[Batch], steps: int) -> float:
    """Seconds per step, without timers."""
    synchronise(trainer.device)
    start = time.perf_counter()
    for _ in range(steps):
        trainer.step(next(batches))
    synchronise(trainer.device)
    return (time.perf_counter() - start) / steps


def _timed_parts(trainer: Trainer, batches: Iterator[Batch], steps: int) -> dict[str, float]:
    """Seconds per step in each part."""
    timer = trainer.timed = Timer(trainer.device)
    try:
        for _ in range(steps):
            with timer("wait"):
                batch = next(batches)
            trainer.step(batch)
    finally:
        trainer.timed = untimed
    return {name: timer.seconds[name] / steps for name in PARTS}
