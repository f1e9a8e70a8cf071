# SPDX-License-Identifier: Apache-2.0
"""Sampling speed of the five denoisers."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial

from gpu.models import KINDS, largest_fitting, new_model, recipe_of, synthetic_batch
from gpu.section import Context, Settings, Task

from pippin.bench.timer import peak_memory, reset_peak_memory, synchronise
from pippin.diffusion.rescale import build_schedule
from pippin.recipes.recipe import latent_shape_of
from pippin.sampling.config import GuidanceConfig, SamplingConfig
from pippin.sampling.sampler import Sampler

STEPS = {"xl": 50, "tiny": 4}
BATCH = {"xl": 32, "tiny": 2}
SCALE = 4.0
"""Scale of classifier-free guidance."""


@dataclass(frozen=True, kw_only=True)
class SamplingRow:
    """Latents of one batch, eager, in bf16, without the autoencoder's decoder."""

    denoiser: str
    images: int
    steps: int
    evaluations: int
    """Evaluations of the network for an image."""
    seconds: float
    images_per_second: float
    peak_memory: int
    """Bytes that torch allocated at most; on a CPU the peak resident set of the process."""


def tasks(context: Context) -> Iterator[Task]:
    """Each denoiser of the checked size."""
    for kind in KINDS:
        yield Task(name=kind, run=partial(_rows, kind, context.settings))


def _rows(kind: str, settings: Settings) -> Iterator[SamplingRow]:
    first = BATCH[settings.size]
    yield largest_fitting(first, lambda count: _drawn(kind, count, settings), settings.device)


def _drawn(kind: str, count: int, settings: Settings) -> SamplingRow:
    recipe, device = recipe_of(kind, settings.size), settings.device
    model, shape = new_model(recipe, device), latent_shape_of(recipe)
    conditions = synthetic_batch(recipe, count, device).conditions
    config = SamplingConfig(
        steps=STEPS[settings.size],
        guidance=GuidanceConfig(semantic_scale=SCALE),
        batch_size=count,
        precision="bf16",
    )
    schedule, prediction = build_schedule(recipe.diffusion), recipe.diffusion.prediction
    warm_up = Sampler(model, schedule, prediction, replace(config, steps=2))
    warm_up.latents(conditions, range(count), shape)
    sampler = Sampler(model, schedule, prediction, config)
    reset_peak_memory(device)
    synchronise(device)
    start = time.perf_counter()
    sampler.latents(conditions, range(count), shape)
    synchronise(device)
    seconds = time.perf_counter() - start
    return SamplingRow(
        denoiser=kind,
        images=count,
        steps=config.steps,
        evaluations=sampler.evaluations_per_image,
        seconds=seconds,
        images_per_second=count / seconds,
        peak_memory=peak_memory(device),
    )
