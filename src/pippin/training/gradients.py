# SPDX-License-Identifier: Apache-2.0
"""Gradients of a global batch, accumulated over micro-batches and averaged over ranks."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from torch.nn.parallel import DistributedDataParallel

from pippin.model import LatentDenoiser
from pippin.objective import Draws, Objective
from pippin.training.config import TrainConfig
from pippin.training.step_loss import StepLoss
from pippin.training.world import World, wrap_parallel
from pippin.types import Batch

Mark = Callable[[str], None]
"""Called with the name of a part of a step once it is issued; names may repeat."""


class Gradients:
    """Loss of a model and its gradients. Build optimizers and averages afterwards: FSDP replaces
    the parameters by shards.

    Args:
        model: on its device.
        objective: the loss.
        config: precision, micro-batch and kind of parallelism.
        world: the ranks that share each batch.
        mark: called with ``forward`` and ``backward``.
    """

    def __init__(
        self,
        model: LatentDenoiser,
        objective: Objective,
        config: TrainConfig,
        world: World,
        mark: Mark,
    ) -> None:
        self._mark, self._config = mark, config
        self._device = next(model.parameters()).device
        self._loss: nn.Module = StepLoss(model, objective, config.precision)
        if world.size > 1:
            self._loss = wrap_parallel(self._loss, world, config.parallel)

    @property
    def sharded(self) -> bool:
        """Whether each rank holds a shard of each weight."""
        return isinstance(self._loss, FSDPModule)

    def backward(self, batch: Batch, draws: Draws) -> Tensor:
        """Accumulate gradients of the mean loss over the global batch, in micro-batches. Returns
        the mean over this rank's rows.

        Args:
            batch: this rank's rows.
            draws: random numbers of the same rows.
        """
        count = len(batch.index)
        size = self._config.micro_batch(count)
        total = torch.zeros((), device=self._device)
        for start in range(0, count, size):
            rows = slice(start, min(start + size, count))
            share = (rows.stop - start) / count
            with self._gradient_sync(last=rows.stop == count):
                loss = self._loss(batch.rows(rows), draws.rows(rows))
                self._mark("forward")
                (loss if share == 1 else share * loss).backward()
            self._mark("backward")
            total = total + share * loss.detach()
        return total

    def _gradient_sync(self, *, last: bool) -> AbstractContextManager[None]:
        """Average gradients over the ranks only with the last micro-batch."""
        if isinstance(self._loss, FSDPModule):
            self._loss.set_requires_gradient_sync(last)
        if last or not isinstance(self._loss, DistributedDataParallel):
            return nullcontext()
        return self._loss.no_sync()
