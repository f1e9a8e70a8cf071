# SPDX-License-Identifier: Apache-2.0
"""Numbers of the device against those of the CPU in fp32, and bf16 against fp32.

For the denoisers the tolerances of the first are above thirty times the rounding of fp32, measured
as products in fp64 against fp32 on a CPU (forward 6e-7, gradients 2e-6, trajectory 6e-7), and far
below that of TF32, whose products keep 10 bits (at least 5e-4, 9e-4 and 3e-4).
"""

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import torch
from gpu.models import CLASSES, KINDS, new_model, recipe_of, synthetic_batch
from gpu.section import Context, Task, Toleranced
from torch import Tensor

from pippin import rng
from pippin.diffusion.rescale import build_schedule
from pippin.evaluation.features.efflite0 import EffLite0
from pippin.model import LatentDenoiser, build_model
from pippin.objective.batch_loss import BatchLoss
from pippin.objective.draws import Draws, draw_step
from pippin.objective.losses import Objective
from pippin.recipes.recipe import Recipe
from pippin.sampling.config import GuidanceConfig, SamplingConfig
from pippin.sampling.sampler import Sampler
from pippin.system.device import autocast, to_device
from pippin.types import Batch

ROWS = 4
"""Images of a comparison."""
STEPS = 10
"""Steps of the compared trajectory."""
FEATURE_SIDE = 64
"""Side of the images whose features are compared, and of the network's input."""
TOLERANCES = {"forward": 2e-5, "gradients": 1e-4, "trajectory": 5e-5, "features": 1e-4}
"""Largest difference from the CPU in units of the largest number, by quantity. For gradients that
of one weight tensor, in units of its largest gradient."""
BF16_TOLERANCES = {"forward": 0.1, "loss": 0.05}
"""Largest relative difference of bf16 from fp32 on the device; small denoisers on a CPU have 0.02
and 0.01 at most, and those of XL are deeper."""


@dataclass(frozen=True, kw_only=True)
class AgreementRow(Toleranced):
    """Difference of one quantity."""

    model: str
    quantity: str


def cpu_tasks(context: Context) -> Iterator[Task]:
    """Small denoisers and the embedded feature network, on the device and on the CPU."""
    device = context.settings.device
    for kind in KINDS:
        yield Task(name=kind, run=partial(_denoiser_rows, kind, device))
    yield Task(name="features", run=partial(_feature_rows, device))


def bf16_tasks(context: Context) -> Iterator[Task]:
    """Denoisers of the checked size in bf16 and in fp32, both on the device."""
    for kind in KINDS:
        yield Task(name=kind, run=partial(_bf16_rows, kind, context))


def on_device(model: LatentDenoiser, device: torch.device) -> LatentDenoiser:
    """A copy of a model on a device."""
    return copy.deepcopy(model).to(device)


def _denoiser_rows(kind: str, device: torch.device) -> Iterator[AgreementRow]:
    recipe = recipe_of(kind, "tiny")
    expected = _cpu_model(recipe)
    model = on_device(expected, device)
    for quantity, compute in QUANTITIES.items():
        error = largest_error(compute(recipe, model), compute(recipe, expected))
        yield AgreementRow(
            model=kind, quantity=quantity, error=error, tolerance=TOLERANCES[quantity]
        )


def _cpu_model(recipe: Recipe) -> LatentDenoiser:
    """Small model without weights of 0, which would hide the rest."""
    model = build_model(
        recipe.conditioning,
        recipe.denoiser,
        num_classes=CLASSES,
        latent_channels=4,
        seed=0,
        log_snr=build_schedule(recipe.diffusion).log_snr,
    )
    with torch.no_grad():
        for place, weight in enumerate(model.parameters()):
            weight.add_(0.05 * rng.normal(tuple(weight.shape), "init", 0, place))
    return model


def forward(recipe: Recipe, model: LatentDenoiser) -> list[Tensor]:
    """Prediction for random latents at several times."""
    device = next(model.parameters()).device
    batch = synthetic_batch(recipe, ROWS, device)
    t = to_device(torch.linspace(1, 999, ROWS).round(), device)
    with torch.no_grad():
        return [model(batch.latents, t, model.prepare(batch.conditions)).mean]


def gradients(recipe: Recipe, model: LatentDenoiser) -> list[Tensor]:
    """Gradient of the training loss for each weight, the masked pass included."""
    batch, draws = _step(recipe, model)
    model.zero_grad(set_to_none=True)
    BatchLoss(model, Objective(recipe.diffusion), "fp32")(batch, draws).backward()
    found = [p.grad for p in model.parameters() if p.grad is not None]
    model.zero_grad(set_to_none=True)
    return found


def trajectory(recipe: Recipe, model: LatentDenoiser) -> list[Tensor]:
    """End of a trajectory of the sampler with guidance."""
    config = SamplingConfig(
        steps=STEPS, guidance=GuidanceConfig(semantic_scale=3.0), batch_size=ROWS
    )
    batch = synthetic_batch(recipe, ROWS, next(model.parameters()).device)
    schedule, prediction = build_schedule(recipe.diffusion), recipe.diffusion.prediction
    sampler = Sampler(model, schedule, prediction, config)
    shape = tuple(batch.latents.shape[1:])
    return [sampler.latents(batch.conditions, range(ROWS), (shape[0], shape[1], shape[2]))]


QUANTITIES = {"forward": forward, "gradients": gradients, "trajectory": trajectory}


def _step(recipe: Recipe, model: LatentDenoiser) -> tuple[Batch, Draws]:
    """Batch and random numbers of a training step."""
    batch = synthetic_batch(recipe, ROWS, next(model.parameters()).device)
    shape = tuple(batch.latents.shape)
    maskable = model.denoiser.num_maskable(shape)
    draws = draw_step(
        recipe.diffusion, recipe.conditioning, shape, num_shuffled=maskable, seed=0, step=0
    )
    return batch, draws


def _feature_rows(device: torch.device) -> Iterator[AgreementRow]:
    shape = (ROWS, 3, FEATURE_SIDE, FEATURE_SIDE)
    images = (255 * rng.uniform(shape, "subset", 0)).to(torch.uint8)
    found, expected = (EffLite0(FEATURE_SIDE, place)(images) for place in (device, "cpu"))
    yield AgreementRow(
        model="efflite0",
        quantity="features",
        error=largest_error([found], [expected]),
        tolerance=TOLERANCES["features"],
    )


def largest_error(found: list[Tensor], expected: list[Tensor]) -> float:
    """Largest difference of one tensor in units of its largest number.

    Numbers below a thousandth of the largest of all tensors are rounding, and not a unit.

    Raises:
        ValueError: other numbers of tensors.
    """
    floor = 1e-3 * max(y.abs().max().item() for y in expected)
    errors = [
        (x.detach().cpu() - y).abs().max().item() / max(y.abs().max().item(), floor)
        for x, y in zip(found, expected, strict=True)
    ]
    return max(errors, key=lambda error: (error != error, error))  # one that is no number first


def _bf16_rows(kind: str, context: Context) -> Iterator[AgreementRow]:
    recipe = recipe_of(kind, context.settings.size)
    model = new_model(recipe, context.settings.device)
    for quantity, compute in {"forward": _autocast_forward, "loss": _loss}.items():
        low, full = (compute(recipe, model, precision) for precision in ("bf16", "fp32"))
        error = ((low - full).norm() / full.norm()).item()
        yield AgreementRow(
            model=kind, quantity=quantity, error=error, tolerance=BF16_TOLERANCES[quantity]
        )


def _autocast_forward(recipe: Recipe, model: LatentDenoiser, precision: str) -> Tensor:
    with autocast(next(model.parameters()).device, precision):
        (prediction,) = forward(recipe, model)
    return prediction.float()


def _loss(recipe: Recipe, model: LatentDenoiser, precision: str) -> Tensor:
    batch, draws = _step(recipe, model)
    with torch.no_grad():
        return BatchLoss(model, Objective(recipe.diffusion), precision)(batch, draws)
