# SPDX-License-Identifier: Apache-2.0
"""Ranks of one command that build caches together, or sample together."""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from pippin.data.cache.manifest import Verify
from pippin.data.cache.shard_claims import Ready
from pippin.distributed.ranks import get_world_size
from pippin.distributed.world import SINGLE_RANK, World, distributed_world, wait_for_collective
from pippin.recipes.recipe import Recipe


@dataclass(frozen=True, kw_only=True)
class Builders:
    """Role of this process in building caches.

    The main process verifies checksums, reports what it rebuilds and shows progress. When it is
    ready, all processes build what is missing. The others check file sizes only.
    """

    is_main: bool = True
    wait: Callable[[], None] = lambda: None
    """Called before a cache is opened: blocks until the main process is ready."""
    ready: Ready = lambda missing: None
    """Called in the main process: lets the others begin."""

    @property
    def verify(self) -> Verify:
        """How a finished cache is checked."""
        return "sha256" if self.is_main else "size"


SINGLE_BUILDER = Builders()


def builders_of(world: World) -> Builders:
    """Builders for the ranks of a training; all ranks need the same caches in the same order."""
    if world.is_rank0:
        return Builders(ready=lambda missing: world.barrier())
    return Builders(is_main=False, wait=world.barrier)


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
        self._broadcast(torch.tensor([len(content)]))
        self._broadcast(content)

    def commands(self) -> Iterator[dict[str, Any]]:
        """Receive the commands of rank 0 until it ends this rank."""
        while (command := self._receive()) is not None:
            yield command

    def barrier(self) -> None:
        """Wait until all ranks have finished a command."""
        self.world.barrier()

    def _receive(self) -> dict[str, Any] | None:
        size = self._broadcast(torch.zeros(1, dtype=torch.int64))
        content = self._broadcast(torch.zeros(int(size), dtype=torch.uint8))
        return json.loads(bytes(content.tolist()))

    def _broadcast(self, values: Tensor) -> Tensor:
        """The values of rank 0, on all ranks."""
        wait_for_collective(dist.broadcast(values, 0, group=self.world.setup_group, async_op=True))
        return values


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
