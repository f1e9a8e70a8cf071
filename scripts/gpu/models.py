# SPDX-License-Identifier: Apache-2.0
"""The five denoisers of the ``paper/`` recipes at 256 pixels, with synthetic batches."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import torch
from gpu.section import SizeChoice, release_memory

from pippin import rng
from pippin.conditioning.config import ConditioningConfig
from pippin.control import Control, Corner, Size
from pippin.denoisers.config import DenoiserConfig
from pippin.denoisers.dit.config import dit
from pippin.denoisers.mdtv2.config import mdtv2
from pippin.denoisers.mmdit.config import mmdit
from pippin.denoisers.pixart.config import pixart
from pippin.denoisers.unet.config import unet
from pippin.diffusion.rescale import build_schedule
from pippin.evaluation.metrics.cost import denoiser_flops, meta_model
from pippin.model import LatentDenoiser, build_model
from pippin.objective.losses import Objective
from pippin.recipes.recipe import Recipe, Shape, latent_shape_of
from pippin.recipes.table import get_recipe
from pippin.system.device import to_device
from pippin.training.blocks import checkpoint_blocks, compile_blocks
from pippin.training.loop import Trainer
from pippin.types import Batch, Conditions, stack_controls

KINDS = ("dit", "pixart", "mmdit", "mdtv2", "unet")
"""Those that compile fastest come first."""
CLASSES = 1000
TINY_RESOLUTION = 64
"""Side of tiny images: latents of 8 x 8."""
LEARNING_RATE = 1e-6
"""Small, so that steps on random targets stay finite."""

Result = TypeVar("Result")


def tiny_denoiser(kind: str) -> DenoiserConfig:
    """Small denoiser of a kind for latents of 8 x 8."""
    sizes: dict[str, DenoiserConfig] = {
        "dit": dit("tiny"),
        "pixart": pixart("tiny"),
        "mmdit": mmdit("tiny"),
        "mdtv2": mdtv2("tiny", (4, 4)),
        "unet": unet("tiny"),
    }
    return sizes[kind]


def recipe_of(kind: str, size: SizeChoice) -> Recipe:
    """Recipe ``paper/KIND-256``, or the same with a small denoiser and small images."""
    recipe = get_recipe(f"paper/{kind}-256")
    if size == "tiny":
        data = replace(recipe.data, resolution=TINY_RESOLUTION)
        recipe = replace(recipe, data=data, denoiser=tiny_denoiser(kind))
    return recipe


def with_training(
    recipe: Recipe, device: torch.device, batch: int, *, compiled: bool = False, every: int = 0
) -> Recipe:
    """The recipe with a batch that is computed at once, in bf16.

    Args:
        recipe: any recipe.
        device: device of the training.
        batch: batch and micro-batch size.
        compiled: compile each block.
        every: every n-th block recomputes its activations; 0 = none.
    """
    train = replace(
        recipe.train,
        batch_size=batch,
        micro_batch_size=None,
        precision="bf16",
        learning_rate=LEARNING_RATE,
        device=str(device),
        compile=compiled,
        gradient_checkpointing=every,
    )
    return replace(recipe, train=train)


def new_model(
    recipe: Recipe, device: torch.device, num_classes: int = CLASSES, channels: int = 4
) -> LatentDenoiser:
    """Model of a recipe with the weights of :func:`draw_model`."""
    model = draw_model(recipe.conditioning, recipe.denoiser, device, num_classes, channels)
    model.conditioner.log_snr = build_schedule(recipe.diffusion).log_snr
    return model


def draw_model(
    conditioning: ConditioningConfig,
    denoiser: DenoiserConfig,
    device: torch.device,
    num_classes: int,
    channels: int,
) -> LatentDenoiser:
    """Model with weights that the device itself draws, which is fast at XL; none is 0 but biases,
    or a part of the network would have no effect."""
    with torch.device(device):
        model = build_model(
            conditioning, denoiser, num_classes=num_classes, latent_channels=channels, seed=None
        )
    torch.manual_seed(0)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.ndim > 1:
                weight.normal_(std=weight[0].numel() ** -0.5)
            else:
                weight.fill_(0.0 if name.endswith("bias") else 1.0)
    return model


def new_trainer(recipe: Recipe, model: LatentDenoiser) -> Trainer:
    """Trainer of a model, with the blocks that the recipe compiles and recomputes."""
    checkpoint_blocks(model.denoiser.blocks, recipe.train.gradient_checkpointing)
    if recipe.train.compile:
        compile_blocks(recipe.denoiser, model.denoiser.blocks)
    return Trainer(
        model.train(),
        Objective(recipe.diffusion),
        recipe.conditioning,
        recipe.train,
        seed=0,
        folder=Path("unused"),  # only checkpoints would create it
    )


def synthetic_batch(recipe: Recipe, count: int, device: torch.device) -> Batch:
    """Random latents on the device, with classes and control of whole images."""
    side = recipe.data.resolution
    control = Control(
        original_size=Size(side, side),
        crop_corner=Corner(0, 0),
        crop_size=Size(side, side),
        flip=False,
    )
    latents = rng.normal((count, *latent_shape_of(recipe)), "posterior", 0, 0)
    label = torch.arange(count) % CLASSES
    return Batch(
        latents=to_device(latents, device),
        conditions=Conditions(label=label, control=stack_controls([control] * count)),
        index=torch.arange(count),
    )


def training_flops(recipe: Recipe, shape: Shape, num_classes: int = CLASSES) -> int:
    """FLOPs of one image, forward and backward, without recomputation."""
    model = meta_model(recipe.conditioning, recipe.denoiser, num_classes, shape[0])
    return denoiser_flops(model, shape, backward=True)


def largest_fitting(start: int, run: Callable[[int], Result], device: torch.device) -> Result:
    """Result of the first batch size of start, start / 2, ... 1 that the memory suffices for.

    Args:
        start: first batch size.
        run: function of the batch size.
        device: device whose memory is freed between tries.

    Raises:
        OutOfMemoryError: not even one image fits.
    """
    batch = start
    while True:
        try:
            return run(batch)
        except torch.OutOfMemoryError:
            if batch == 1:
                raise
        release_memory(device)  # outside of the handler, whose error holds the tensors
        batch //= 2
