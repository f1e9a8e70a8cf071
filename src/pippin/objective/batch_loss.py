# SPDX-License-Identifier: Apache-2.0
"""Loss of some rows of a batch: conditions, noise, model and losses in one forward pass."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from pippin.model import LatentDenoiser
from pippin.objective.alignment import alignment_loss
from pippin.objective.draws import Draws
from pippin.objective.losses import Objective
from pippin.objective.mean_velocity import MeanVelocityTarget
from pippin.system.device import autocast, to_device
from pippin.training.repa.config import NO_REPA, RepaConfig
from pippin.types import Batch, Latents, Prediction, Times


class BatchLoss(nn.Module):
    """Loss of some rows of a batch: conditions, noise, model and loss in one forward pass, as one
    module, so that the hooks of DDP and FSDP see every parameter's use.

    Args:
        model: on its device; with a projector if REPA is on.
        objective: the loss.
        precision: of the forward pass, see :class:`pippin.training.config.TrainConfig`.
        repa: the auxiliary loss, which is added times its weight.
    """

    def __init__(
        self,
        model: LatentDenoiser,
        objective: Objective,
        precision: str,
        repa: RepaConfig = NO_REPA,
    ) -> None:
        super().__init__()
        self.model, self.objective, self.precision, self.repa = model, objective, precision, repa
        self.logged: dict[str, Tensor] = {}
        """Parts of the last loss that are logged by themselves, before their weights: ``repa``,
        and the ``squared_error`` that has an adaptive weight."""

    def forward(self, batch: Batch, draws: Draws) -> Float[Tensor, ""]:
        """Mean loss of the rows.

        Args:
            batch: some rows.
            draws: random numbers of the same rows.
        """
        device = next(self.model.parameters()).device
        masking = None if draws.masking is None else draws.masking.to(device)
        interval = None if draws.interval is None else to_device(draws.interval, device)
        predictions: list[Prediction] = []
        self.logged = {}
        with autocast(device, self.precision):
            prepared = self.model.prepare(batch.conditions, draws.keep)

            def predict(x_t: Latents, t: Times) -> Prediction:
                predictions.append(self.model(x_t, t, prepared, masking, interval))
                return predictions[-1]

            losses = self.objective(
                predict,
                to_device(batch.latents, device),
                draws.t,
                to_device(draws.noise, device),
                None if interval is None else self._mean_velocity_target(batch, draws),
                self.logged,
            )
            if self.repa.enabled:
                losses["repa"] = self._aligned(predictions[0], batch)
        return torch.stack([loss.mean() for loss in losses.values()]).sum()

    def _mean_velocity_target(self, batch: Batch, draws: Draws) -> MeanVelocityTarget:
        return MeanVelocityTarget(
            model=self.model,
            config=self.objective.config.meanflow,
            precision=self.precision,
            conditions=batch.conditions,
            draws=draws,
        )

    def _aligned(self, prediction: Prediction, batch: Batch) -> Float[Tensor, " batch"]:
        """REPA's loss of each image, times its weight."""
        norm = self.repa.spatial_norm
        loss = alignment_loss(self.model.projector, prediction, batch.features, norm)
        self.logged["repa"] = loss.detach().mean()
        return self.repa.weight * loss
