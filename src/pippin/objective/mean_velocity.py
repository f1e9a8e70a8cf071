# SPDX-License-Identifier: Apache-2.0
"""Target of mean velocities (MeanFlow), from the network itself and without gradient."""

from dataclasses import dataclass

import torch

from pippin.diffusion.config import MeanFlowConfig
from pippin.diffusion.meanflow import (
    MeanVelocity,
    guided_velocity,
    mean_velocity_target,
    velocity_of,
)
from pippin.model import LatentDenoiser
from pippin.objective.draws import Draws
from pippin.system.device import autocast, to_device
from pippin.types import Conditions, Keep, Latents, Times


@dataclass(frozen=True, kw_only=True)
class MeanVelocityTarget:
    """Target of some rows of a batch, a :data:`pippin.objective.losses.Retarget`."""

    model: LatentDenoiser
    config: MeanFlowConfig
    precision: str
    """Precision of the forward passes, as in training."""
    conditions: Conditions
    draws: Draws
    """Random numbers of the same rows, with intervals."""

    def __call__(self, x_t: Latents, velocity: Latents) -> Latents:
        """Target for states and their velocities.

        Rows without an interval keep their velocity. At least one row is computed, so that all
        ranks call the network equally often, as sharded weights need it.
        """
        draws = self.draws
        assert draws.interval is not None
        t, interval = (to_device(x, x_t.device) for x in (draws.t, draws.interval))
        if self.config.guided:
            velocity = self._guided(x_t, velocity, t)
        chosen = draws.interval.nonzero().flatten()
        chosen = chosen if len(chosen) else torch.zeros(1, dtype=torch.long)
        network = self._mean_velocity(self.conditions.rows(chosen), draws.keep.rows(chosen))
        rows = to_device(chosen, x_t.device)
        inputs = (x[rows] for x in (x_t, t, interval, velocity))
        return velocity.index_copy(0, rows, mean_velocity_target(network, *inputs))

    def _guided(self, x_t: Latents, velocity: Latents, t: Times) -> Latents:
        """Guided velocity of rows that keep their semantics; v of the others."""
        keep = self.draws.keep
        dropped = torch.zeros_like(keep.semantic)
        conditional, unconditional = (
            velocity_of(self._mean_velocity(self.conditions, kept), x_t, t)
            for kept in (keep, Keep(semantic=dropped, control=dropped))
        )
        guided = guided_velocity(self.config, velocity, conditional, unconditional, t)
        kept_rows = to_device(keep.semantic, x_t.device)[:, None, None, None]
        return torch.where(kept_rows, guided, velocity)

    def _mean_velocity(self, conditions: Conditions, keep: Keep) -> MeanVelocity:
        """The network's mean velocity under these conditions, to be called without gradients."""

        def mean_velocity(z: Latents, t: Times, interval: Times) -> Latents:
            with autocast(z.device, self.precision, cache=False):
                prepared = self.model.prepare(conditions, keep)
                return self.model(z, t, prepared, None, interval).mean.float()

        return mean_velocity
