# SPDX-License-Identifier: Apache-2.0
"""Two ranks on rehearsed GPUs: this process is rank 0, and collectives change nothing.

DDP and FSDP2 wrap, forward and reduce gradients as they would on GPUs, as far as their code is
Python. What runs in C++ or needs a driver is replaced: streams and events, DDP's comparison of
parameters between ranks, and its reducer after it was built.
"""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import cuda_rehearsal
import pytest
import torch
import torch.distributed as dist
import torch.nn.parallel.distributed as ddp
from cuda_rehearsal import CudaRehearsal, fake_backward, rehearsal
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.nn.parallel import DistributedDataParallel
from torch.testing._internal.distributed.fake_pg import FakeStore

from pippin.distributed import world as world_module
from pippin.distributed.world import World


class Idle:
    """Stream or event of a GPU without work. Waiting for it on the CPU is an error."""

    def __init__(self, *args: Any, **kwargs: Any) -> None: ...

    def query(self) -> bool:
        return True

    def record_event(self, *args: Any) -> "Idle":
        return self

    def record(self, *args: Any) -> None: ...

    wait = wait_event = wait_stream = record

    def synchronize(self) -> None:
        raise AssertionError("the CPU waits for a stream or an event")


class IdleReducer:
    """Reducer of DDP whose gradients are already averaged."""

    def __getattr__(self, name: str) -> Any:
        return lambda *args, **kwargs: False


class RehearsedDDP(DistributedDataParallel):
    """DDP whose reducer was built for the parameters, and does nothing."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.reducer = IdleReducer()


class Sharding:
    """``fully_shard`` and the backward pass of what it wrapped last."""

    def __init__(self) -> None:
        self.modules: list[FSDPModule] = []

    def __call__(self, module: Any, **options: Any) -> None:
        self.modules.append(fully_shard(module, **options))

    def backward(self, loss: torch.Tensor) -> None:
        """Gather the weights, give them gradients without values, reduce and scatter these."""
        for module in self.modules:
            module.unshard()
        fake_backward(loss)
        for module in self.modules[-1:]:
            module._get_fsdp_state()._root_post_backward_final_callback()


@contextmanager
def two_ranks() -> Iterator[tuple[CudaRehearsal, World]]:
    """Rehearsal of rank 0 of two."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cuda_rehearsal, "_IdleStream", Idle)
        patch.setattr(torch.cuda, "Stream", Idle)
        patch.setattr(torch.cuda, "Event", Idle)
        patch.setattr(torch.cuda, "stream", lambda _: nullcontext())
        patch.setattr(torch.cuda, "current_device", lambda: 0)
        patch.setattr(ddp, "_verify_param_shape_across_processes", lambda *args: True)
        patch.setattr(world_module, "DistributedDataParallel", RehearsedDDP)
        sharding = Sharding()
        patch.setattr(world_module, "fully_shard", sharding)
        patch.setattr(world_module, "wait_for_collective", lambda work: work.wait())
        dist.init_process_group("fake", rank=0, world_size=2, store=FakeStore())
        try:
            with rehearsal() as mode, pytest.MonkeyPatch.context() as inner:
                inner.setattr(torch.Tensor, "backward", lambda loss: sharding.backward(loss))
                yield mode, World(rank=0, size=2)
        finally:
            dist.destroy_process_group()
