# SPDX-License-Identifier: Apache-2.0
"""One training step of pippin on synthetic latents that are in memory."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from pippin.bench.config import Precision
from pippin.conditioning.config import ConditioningConfig, TextSemantic
from pippin.denoisers.config import DenoiserConfig
from pippin.diffusion.config import DiffusionConfig
from pippin.distributed.world import SINGLE_RANK, World
from pippin.evaluation.metrics.cost import denoiser_flops, meta_model
from pippin.model import LatentDenoiser, build_model
from pippin.objective.losses import Objective
from pippin.training.config import TrainConfig
from pippin.training.loop import Trainer
from pippin.types import Batch, Conditions, TextFeatures

NUM_CLASSES, CHANNELS = 1000, 4
DIFFUSION = DiffusionConfig(schedule="ddpm")
"""Process of the published DiT: 1000 indices, linear betas, prediction of the noise."""
ENDLESS = 10**9
"""Images of the run whose first steps are measured."""


@dataclass(frozen=True, kw_only=True)
class TrainingCase:
    """Everything that determines the work of a training step."""

    denoiser: DenoiserConfig
    conditioning: ConditioningConfig
    side: int
    """Side of the latents."""
    batch_size: int
    """Global batch size."""
    precision: Precision
    device: torch.device

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """(channels, height, width)."""
        return CHANNELS, self.side, self.side

    def flops(self) -> int:
        """FLOPs of the denoiser for one image, forward and backward."""
        model = meta_model(self.conditioning, self.denoiser, NUM_CLASSES, CHANNELS)
        return denoiser_flops(model, self.latent_shape, backward=True)

    def model(self) -> LatentDenoiser:
        """Model with initial weights, on the device."""
        model = build_model(
            self.conditioning,
            self.denoiser,
            num_classes=NUM_CLASSES,
            latent_channels=CHANNELS,
            seed=0,
        )
        return model.to(self.device)

    def batch(self, world: World = SINGLE_RANK) -> Batch:
        """This rank's rows of a batch of random latents and conditions."""
        draws = torch.Generator().manual_seed(world.rank)
        rows = self.batch_size // world.size
        latents = torch.randn(rows, *self.latent_shape, generator=draws)
        semantic, text, label = self.conditioning.semantic, None, None
        if isinstance(semantic, TextSemantic):
            tokens, width = semantic.num_tokens, semantic.token_features or 1
            pooled = semantic.pooled_features
            text = TextFeatures(
                tokens=torch.randn(rows, tokens, width, generator=draws).to(self.device),
                pooled=None
                if pooled is None
                else torch.randn(rows, pooled, generator=draws).to(self.device),
            )
        else:
            label = torch.arange(rows) % NUM_CLASSES
        return Batch(
            latents=latents.to(self.device),
            conditions=Conditions(label=label, text=text, control={}),
            index=torch.arange(rows),
        )


def training_step(
    case: TrainingCase, world: World = SINGLE_RANK, model: LatentDenoiser | None = None
) -> Callable[[], object]:
    """Step of pippin's trainer: random numbers, noising, forward and backward pass, clipping,
    Adam, EMA. The batch is in memory; no data are loaded.

    Args:
        case: model, batch and precision.
        world: the ranks that share each batch.
        model: trained instead of one with initial weights.
    """
    config = TrainConfig(
        images=ENDLESS,
        batch_size=case.batch_size,
        precision=case.precision,
        device=case.device.type,
    )
    trainer = Trainer(
        case.model() if model is None else model,
        Objective(DIFFUSION),
        case.conditioning,
        config,
        seed=0,
        folder=Path("unused"),  # only checkpoints would create it
        world=world,
    )
    trainer.model.train()
    batch = case.batch(world)
    return lambda: trainer.step(batch)
