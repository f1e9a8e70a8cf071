# SPDX-License-Identifier: Apache-2.0
"""Ranks that sample together, at the commands of rank 0."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch

from pippin.distributed.ranks import get_world_size
from pippin.distributed.world import SINGLE_RANK, World, distributed_world
from pippin.recipes.recipe import Recipe


class SamplingGroup:
    """The ranks that sample together.

    Commands are JSON objects. A rank that waits for one, for hours between two rounds of sampling
    while rank 0 evaluates, keeps no GPU busy and can be interrupted.

    Args:
        world: rank and process group.
    """

    def __init__(self, world: World) -> None:
        self.world = world

    def broadcast(self, command: Mapping[str, Any] | None) -> None:
        """Send a command to the other ranks; None ends them. Only rank 0 calls this."""
        if self.world.size == 1:
            return
        content = torch.tensor(list(json.dumps(command).encode()), dtype=torch.uint8)
        self.world.broadcast(torch.tensor([len(content)]))
        self.world.broadcast(content)

    def commands(self) -> Iterator[dict[str, Any]]:
        """Receive the commands of rank 0 until it ends this rank."""
        while (command := self._receive()) is not None:
            yield command

    def barrier(self) -> None:
        """Wait until all ranks have finished a command."""
        self.world.barrier()

    def _receive(self) -> dict[str, Any] | None:
        size = self.world.broadcast(torch.zeros(1, dtype=torch.int64))
        content = self.world.broadcast(torch.zeros(int(size), dtype=torch.uint8))
        return json.loads(bytes(content.tolist()))


SINGLE_PROCESS = SamplingGroup(SINGLE_RANK)


@contextmanager
def join_sampling_group(recipe: Recipe) -> Iterator[SamplingGroup]:
    """The sampling group of torchrun's environment variables. Rank 0 ends the other ranks when the
    body returns without an error.

    Args:
        recipe: of the run; each rank takes a GPU of its own where the run was trained on one.
    """
    with distributed_world(with_local_device(recipe).train.device) as world:
        sampling_group = SamplingGroup(world)
        yield sampling_group
        if world.is_rank0:
            sampling_group.broadcast(None)


def with_local_device(recipe: Recipe) -> Recipe:
    """The recipe on any GPU instead of the one of its training, where several ranks share the
    work."""
    if get_world_size() == 1:
        return recipe
    device = recipe.train.device.partition(":")[0]
    return replace(recipe, train=replace(recipe.train, device=device))
