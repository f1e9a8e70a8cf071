# SPDX-License-Identifier: Apache-2.0
"""Processes under torchrun of which the first one works, and the others draw images for it."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from pippin.recipes.recipe import Recipe
from pippin.system.ranks import process_count
from pippin.training.world import ALONE, World, joined, wait_for


class Crew:
    """The processes that draw together.

    Orders are JSON objects. Whoever waits for one, for hours between two drawings where an
    evaluation measures, keeps no card busy and can be stopped.

    Args:
        world: the processes.
    """

    def __init__(self, world: World) -> None:
        self.world = world

    def tell(self, order: Mapping[str, Any] | None) -> None:
        """Give the others an order; None sends them home. Only the first process tells."""
        if self.world.size == 1:
            return
        content = torch.tensor(list(json.dumps(order).encode()), dtype=torch.uint8)
        self._share(torch.tensor([len(content)]))
        self._share(content)

    def orders(self) -> Iterator[dict[str, Any]]:
        """What the first process tells, until it sends this one home."""
        while (order := self._hear()) is not None:
            yield order

    def meet(self) -> None:
        """Wait until all are done with an order."""
        self.world.barrier()

    def _hear(self) -> dict[str, Any] | None:
        size = self._share(torch.zeros(1, dtype=torch.int64))
        content = self._share(torch.zeros(int(size), dtype=torch.uint8))
        return json.loads(bytes(content.tolist()))

    def _share(self, values: Tensor) -> Tensor:
        """The first process's values, in all of them."""
        wait_for(dist.broadcast(values, 0, group=self.world.patient, async_op=True))
        return values


NOBODY = Crew(ALONE)


@contextmanager
def assembled(recipe: Recipe) -> Iterator[Crew]:
    """The crew that torchrun's variables describe; where the body ends well, the first process
    has sent the others home.

    Args:
        recipe: of the run; each process takes a card of its own where it was trained on one.
    """
    with joined(own_card(recipe).train.device) as world:
        crew = Crew(world)
        yield crew
        if world.first:
            crew.tell(None)


def own_card(recipe: Recipe) -> Recipe:
    """Where several processes share the work: the recipe on any card, not on that of its
    training."""
    if process_count() == 1:
        return recipe
    device = recipe.train.device.partition(":")[0]
    return replace(recipe, train=replace(recipe.train, device=device))
