# SPDX-License-Identifier: Apache-2.0
"""Loss of some rows of a batch as one module, which DDP or FSDP wraps."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from pippin.model import LatentDenoiser
from pippin.objective import Draws, Objective
from pippin.system.device import autocast, to_device
from pippin.types import Batch


class StepLoss(nn.Module):
    """Conditions, noise and loss in one forward pass, so that hooks see every parameter's use.

    Args:
        model: on its device.
        objective: the loss.
        precision: of the forward pass, see :class:`pippin.training.config.TrainConfig`.
    """

    def __init__(self, model: LatentDenoiser, objective: Objective, precision: str) -> None:
        super().__init__()
        self.model, self.objective, self.precision = model, objective, precision

    def forward(self, batch: Batch, draws: Draws) -> Float[Tensor, ""]:
        """Mean loss of the rows.

        Args:
            batch: some rows.
            draws: random numbers of the same rows.
        """
        device = next(self.model.parameters()).device
        masking = None if draws.masking is None else draws.masking.to(device)
        with autocast(device, self.precision):
            prepared = self.model.prepare(batch.conditions, draws.keep)
            losses = self.objective(
                lambda x_t, t: self.model(x_t, t, prepared, masking),
                to_device(batch.latents, device),
                draws.t,
                to_device(draws.noise, device),
            )
        return torch.stack([loss.mean() for loss in losses.values()]).sum()
