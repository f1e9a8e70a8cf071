# SPDX-License-Identifier: Apache-2.0
"""Measures how fast a recipe trains: the real loader and the real trainer, in windows."""

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from pippin.bench.clock import Laps, matmul_peak, peak_memory, reset_peak_memory, synchronise
from pippin.bench.config import BenchConfig
from pippin.bench.machine import machine
from pippin.bench.made_up import MadeUpMoments
from pippin.bench.record import BenchRecord, ModeResult, Spread
from pippin.config import protocol
from pippin.data.config import check_squares
from pippin.data.loader import LatentLoader
from pippin.recipes.recipe import Recipe
from pippin.run.cost import denoiser_flops, meta_model
from pippin.run.parts import Parts
from pippin.run.train import build_trainer
from pippin.study.environment import environment
from pippin.training.trainer import Trainer
from pippin.types import Batch

PARTS = ("wait", "draw", "forward", "backward", "optimizer", "ema")
"""Of a step: waiting for the batch; random numbers; noising, conditioning, model and loss; its
gradient; clipping and the optimizer; the average of the weights."""


def bench(recipe: Recipe, name: str, config: BenchConfig, console: Console) -> BenchRecord:
    """Measure every mode that ``config`` asks for.

    Args:
        recipe: what is trained; its precision and compile are replaced by the modes'.
        name: of the recipe, for the record.
        config: modes and windows.
        console: where progress is shown.
    """
    if config.threads:
        torch.set_num_threads(config.threads)
    parts = _parts(recipe, config, console)
    classes, channels = len(parts.train_source.class_names), parts.latent_shape[0]
    counted = meta_model(recipe.conditioning, recipe.denoiser, classes, channels)
    flops = denoiser_flops(counted, parts.latent_shape, backward=True)
    with console.status("loader alone"):
        loader = _loader_speed(parts, config)
    modes = []
    for compiled in (False, True) if config.compile else (False,):
        for precision in config.precisions:
            train = replace(recipe.train, precision=precision, compile=compiled)
            parts.recipe = replace(recipe, train=train)
            with console.status(f"{precision} {'compiled' if compiled else 'eager'}"):
                modes.append(_mode(parts, config, flops))
    return BenchRecord(
        recipe=name,
        versions=environment(),
        machine=machine(parts.device),
        settings=_settings(recipe, config),
        step_flops=flops,
        loader=loader,
        modes=tuple(modes),
    )


def _parts(recipe: Recipe, config: BenchConfig, console: Console) -> Parts:
    parts = Parts(recipe, console)
    if config.data == "recipe":
        check_squares(recipe.data, "pippin bench, which counts the FLOPs of one shape,")
    else:
        source = parts.train_source
        pictures, classes = min(len(source), 1024), len(source.class_names)
        parts.moments = MadeUpMoments(parts.latent_shape, classes, pictures)
    return parts


def _settings(recipe: Recipe, config: BenchConfig) -> dict[str, Any]:
    """All that decides the work of a step; the modes stand by themselves."""
    own = {f"bench.{name}": getattr(config, name) for name in ("data", "steps", "matmul_side")}
    loading = {"train.workers": recipe.train.workers, "cache.enabled": recipe.cache.enabled}
    whole = protocol(recipe) | own | loading
    return {path: value for path, value in whole.items() if path != "train.precision"}


def _loader(parts: Parts) -> Iterator[Batch]:
    train = parts.recipe.train
    return iter(
        LatentLoader(
            parts.moments,
            parts.autoencoder,
            batch_size=train.batch_size,
            seed=parts.recipe.seed,
            workers=train.workers,
            device=parts.device,
            captions=parts.captions,
        )
    )


def _loader_speed(parts: Parts, config: BenchConfig) -> Spread:
    """Images/s of batches that nobody trains on."""
    batches, batch_size = _loader(parts), parts.recipe.train.batch_size
    next(batches)
    speeds = []
    for _ in range(config.windows):
        synchronise(parts.device)
        began = time.perf_counter()
        for _ in range(config.steps):
            next(batches)
        synchronise(parts.device)
        speeds.append(config.steps * batch_size / (time.perf_counter() - began))
    return Spread.over(speeds)


def _mode(parts: Parts, config: BenchConfig, flops: int) -> ModeResult:
    train, device = parts.recipe.train, parts.device
    trainer = build_trainer(parts, Path("unused"))  # a folder that only checkpoints would make
    trainer.model.train()
    batches = _loader(parts)
    for _ in range(config.warmup):
        _step(trainer, batches, None)
    seconds: list[float] = []
    laps: list[dict[str, float]] = []
    peaks: list[float] = []
    memory = 0
    for _ in range(config.windows):
        reset_peak_memory(device)
        seconds.append(_window(trainer, batches, config.steps))
        laps.append(_timed_parts(trainer, batches, config.steps))
        memory = max(memory, peak_memory(device))
        peaks.append(matmul_peak(device, train.precision, config.matmul_side))
    work = flops * train.batch_size
    return ModeResult(
        precision=train.precision,
        compiled=train.compile,
        images_per_second=Spread.over([train.batch_size / s for s in seconds]),
        step_seconds=Spread.over(seconds),
        parts={name: Spread.over([lap[name] for lap in laps]) for name in PARTS},
        matmul_peak=Spread.over(peaks),
        peak_share=Spread.over([work / s / p for s, p in zip(seconds, peaks, strict=True)]),
        peak_memory=memory,
    )


def _window(trainer: Trainer, batches: Iterator[Batch], steps: int) -> float:
    """Seconds a step, undisturbed."""
    synchronise(trainer.device)
    began = time.perf_counter()
    for _ in range(steps):
        _step(trainer, batches, None)
    synchronise(trainer.device)
    return (time.perf_counter() - began) / steps


def _timed_parts(trainer: Trainer, batches: Iterator[Batch], steps: int) -> dict[str, float]:
    """Seconds a step spends in each part."""
    laps, undisturbed = Laps(trainer.device), trainer.mark
    trainer.mark = laps.mark
    try:
        for _ in range(steps):
            laps.start()
            _step(trainer, batches, laps.mark)
    finally:
        trainer.mark = undisturbed
    return {name: laps.seconds[name] / steps for name in PARTS}


def _step(trainer: Trainer, batches: Iterator[Batch], mark: Callable[[str], None] | None) -> None:
    """As the training loop does it, but that it never fetches a batch ahead."""
    began = time.perf_counter()
    batch = next(batches)
    waited = time.perf_counter() - began
    if mark is not None:
        mark("wait")
    trainer.step(batch, began, waited)
