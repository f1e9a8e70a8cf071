# SPDX-License-Identifier: Apache-2.0
"""What all processes know after the same step."""

from dataclasses import dataclass

import torch
from torch import Tensor

from pippin.system.stop import STOPS
from pippin.training.world import World


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """The numbers of one step, and what makes all processes end after it."""

    loss: float
    """Of the global batch."""
    norm: float
    """Of its gradient."""
    stop: int | None = None
    """A signal that one of several processes was sent; one process alone looks for itself."""
    save_failed: bool = False
    """The first of several processes could not write a checkpoint."""


def agree(
    world: World, loss: Tensor, norm: Tensor, asked: int | None, save_failed: bool
) -> Agreement:
    """Share what each process knows, in one sum, so that none waits for one that has ended.

    Args:
        world: the processes.
        loss: mean over this process's rows.
        norm: of the shared gradient, the same in all.
        asked: the signal that this process was sent.
        save_failed: this process could not write a checkpoint.
    """
    if world.size == 1:
        loss_value, norm_value = torch.stack([loss, norm]).tolist()
        return Agreement(loss=loss_value, norm=norm_value)
    news = loss.new_tensor([save_failed, *(asked == one for one in STOPS)]).double()
    total, failed, *stops = world.sum(torch.cat([loss.double()[None], news])).tolist()
    return Agreement(
        loss=total / world.size,
        norm=float(norm),
        stop=next((signal for signal, count in zip(STOPS, stops, strict=True) if count), None),
        save_failed=failed > 0,
    )
