# SPDX-License-Identifier: Apache-2.0
"""Step status that all ranks share after each step."""

from dataclasses import dataclass

import torch
from torch import Tensor

from pippin.system.signals import STOPS
from pippin.training.world import World


@dataclass(frozen=True, kw_only=True)
class StepStatus:
    """Loss and gradient norm of one step, and reasons for all ranks to stop after it."""

    loss: float
    """Mean loss of the global batch."""
    norm: float
    """Norm of its gradient."""
    stop: int | None = None
    """Signal received by any of several ranks; a single process checks its own."""
    save_failed: bool = False
    """Whether rank 0 of several failed to save a checkpoint."""


def sync_step_status(
    world: World, loss: Tensor, norm: Tensor, stop_signal: int | None, save_failed: bool
) -> StepStatus:
    """Share each rank's status in one all-reduce, so that no rank waits for one that has exited.

    Args:
        world: the ranks.
        loss: mean over this rank's rows.
        norm: of the averaged gradient, equal on all ranks.
        stop_signal: the signal that this rank received.
        save_failed: whether this rank failed to save a checkpoint.
    """
    if world.size == 1:
        loss_value, norm_value = torch.stack([loss, norm]).tolist()
        return StepStatus(loss=loss_value, norm=norm_value)
    flags = loss.new_tensor([save_failed, *(stop_signal == signal for signal in STOPS)])
    total, failed, *stops = world.all_reduce_sum(
        torch.cat([loss.double()[None], flags.double()])
    ).tolist()
    return StepStatus(
        loss=total / world.size,
        norm=float(norm),
        stop=next((signal for signal, count in zip(STOPS, stops, strict=True) if count), None),
        save_failed=failed > 0,
    )
