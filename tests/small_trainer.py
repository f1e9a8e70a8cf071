# SPDX-License-Identifier: Apache-2.0
"""Small trainer that runs in milliseconds, on synthetic latents."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import torch

from pippin import rng
from pippin.conditioning.config import ConditioningConfig
from pippin.control import Control, Corner, Size
from pippin.denoisers.config import DenoiserConfig
from pippin.denoisers.mmdit.config import MMDiTConfig
from pippin.diffusion.config import DiffusionConfig
from pippin.distributed.world import SINGLE_RANK, World
from pippin.model import LatentDenoiser, build_model
from pippin.objective.losses import Objective
from pippin.training.config import TrainConfig
from pippin.training.loop import Trainer
from pippin.training.monitor import Monitor
from pippin.training.repa.projector import add_projector
from pippin.types import Batch, Conditions, stack_controls

CONFIG = TrainConfig(
    images=160,
    batch_size=8,
    learning_rate=1e-3,
    precision="fp32",
    checkpoint_every=40,
    device="cpu",
)

REPA_FEATURES = 5
"""Number of features that a trainer with REPA aligns to."""

SMALL = MMDiTConfig(depth=2, width=16, num_heads=2)


def batches(start_step: int = 0, batch_size: int = 8) -> Iterator[Batch]:
    """Yield batches; the batch of step k depends on k only."""
    control = Control(
        original_size=Size(64, 64), crop_corner=Corner(0, 0), crop_size=Size(64, 64), flip=False
    )
    step = start_step
    while True:
        indices = rng.permutation(100, "order", 0, step)[:batch_size]
        latents = rng.normal((batch_size, 4, 8, 8), "posterior", 0, step)
        conditions = Conditions(label=indices % 3, control=stack_controls([control] * batch_size))
        yield Batch(latents=latents, conditions=conditions, index=indices)
        step += 1


def rank_batches(batches: Iterator[Batch], world: World) -> Iterator[Batch]:
    """Rows of one rank."""
    return (batch.rows(world.local_rows(len(batch.index))) for batch in batches)


def make_trainer(
    folder: Path,
    world: World = SINGLE_RANK,
    denoiser: DenoiserConfig = SMALL,
    dtype: torch.dtype = torch.float32,
    conditioning: ConditioningConfig = ConditioningConfig(),  # noqa: B008 (frozen)
    awake: bool = False,
    diffusion: DiffusionConfig = DiffusionConfig(),  # noqa: B008 (frozen)
    **settings,
) -> Trainer:
    """Trainer at image 0 with replaced settings; awake: no weight is zero, all have gradients."""
    model = build_model(conditioning, denoiser, num_classes=3, latent_channels=4, seed=0).to(dtype)
    if awake:
        with torch.no_grad():
            for place, weight in enumerate(model.parameters()):
                weight += 0.05 * rng.normal(tuple(weight.shape), "init", place).to(dtype)
    config = replace(CONFIG, **settings)
    add_projector(model, config.repa, REPA_FEATURES, seed=0)
    objective = Objective(diffusion)
    return Trainer(model, objective, conditioning, config, seed=0, folder=folder, world=world)


def make_monitor(every: int, run: Callable[[LatentDenoiser, int], None]) -> Monitor:
    """Monitor of a run whose weights are not sharded."""
    return Monitor(every=every, run=run, build=_build_none)


def _build_none() -> LatentDenoiser:
    raise AssertionError("only sharded weights are gathered into another model")
