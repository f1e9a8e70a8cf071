# SPDX-License-Identifier: Apache-2.0
"""The processes that train one model together: started by torchrun, or one alone.

``torchrun --nproc-per-node 4 -m pippin train ...`` sets RANK, WORLD_SIZE and LOCAL_RANK; without
them there is one process, and the same code runs without a process group.
"""

import os
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

from pippin.system.children import end_with_launcher
from pippin.system.stop import TrainingDivergedError, TrainingStoppedError
from pippin.training.step_loss import StepLoss

PATIENCE = timedelta(hours=2)
"""How long a process waits for the others inside a step, which the first one may begin later: it
draws previews and validates meanwhile."""
LONG_PATIENCE = timedelta(days=1)
"""How long it waits before the first step and for what is not a step, while the first process
reads the checksums of a large cache, looks into every picture, or measures. That the first one is
gone is heard at once."""
LOOK = 0.05
"""Seconds between two looks whether the others have come; a signal is heard between them."""


@dataclass(frozen=True, kw_only=True)
class World:
    """This process among those that share each batch."""

    rank: int = 0
    size: int = 1
    patient: dist.ProcessGroup | None = None
    """All of them, for what may take :data:`LONG_PATIENCE`: by gloo, so that whoever waits keeps
    no card busy. None = the default group."""

    @property
    def first(self) -> bool:
        """Whether this is the process that writes files and shows progress."""
        return self.rank == 0

    def part(self, count: int) -> slice:
        """This process's rows of a global batch."""
        share = count // self.size
        return slice(self.rank * share, (self.rank + 1) * share)

    def barrier(self) -> None:
        """Wait for all, however long the first one works."""
        self.any(False)

    def any(self, here: bool) -> bool:
        """Wait for all in the same way; whether it is so in one of them."""
        count = torch.tensor(float(here))
        if self.size > 1:
            wait_for(dist.all_reduce(count, group=self.patient, async_op=True))
        return bool(count)

    def sum(self, values: Tensor) -> Tensor:
        """The sum over all processes, in all of them; in place."""
        if self.size > 1:
            dist.all_reduce(values)
        return values

    @contextmanager
    def first_alone(self) -> Iterator[None]:
        """The first process runs the body before the others do: it prepares what they share."""
        if not self.first:
            self.barrier()
        yield
        if self.first:
            self.barrier()


ALONE = World()


def wait_for(work: Any) -> None:
    """Until something that was begun with ``async_op`` is done: not by torch alone, in which no
    signal would be heard.

    Raises:
        RuntimeError: another process is gone.
    """
    while not work.is_completed():
        time.sleep(LOOK)
    work.wait()


@contextmanager
def joined(device: str) -> Iterator[World]:
    """The world that torchrun's variables describe; the process group ends with the body.

    Args:
        device: as in ``train.device``; cuda and auto take the card of LOCAL_RANK.

    An error in one process leaves the group as it is: ending it waits for all, and the others may
    wait in the middle of a step. torchrun ends them when this process has said what is wrong; and
    where torchrun itself is killed, its processes end with it.

    Raises:
        ValueError: variables that are missing or do not fit, a single card for all, or fewer cards
            than processes on this machine.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1 or dist.is_initialized():
        yield _current()
        return
    end_with_launcher()
    if ":" in device:
        raise ValueError(
            f"train.device {device} would put {size} processes on one card: give cuda, and each "
            "takes the card of its LOCAL_RANK"
        )
    on_cards = torch.cuda.is_available() and device != "cpu"
    _refuse_half_a_world(size, on_cards)
    if on_cards:
        local_rank = int(os.environ["LOCAL_RANK"])
        here = int(os.environ.get("LOCAL_WORLD_SIZE", local_rank + 1))
        take_card(local_rank, here, "--nproc-per-node of torchrun")
    dist.init_process_group("nccl" if on_cards else "gloo", timeout=PATIENCE)
    world = _current()
    if world.size != size:
        raise ValueError(f"WORLD_SIZE is {size}, but {world.size} processes met")
    try:
        yield world
    except (TrainingStoppedError, TrainingDivergedError):  # which all raise after the same step
        dist.destroy_process_group()
        raise
    dist.destroy_process_group()


def refuse_lone_tasks() -> None:
    """Refuse to train in one of several tasks that srun has started and nothing joins: each would
    be the whole run on one card, and all but one would then find the folder in use.

    A shell or a script inside an allocation is no step of several tasks, whatever SLURM_NTASKS
    says there, and a job of submitit is a step of one.

    Raises:
        ValueError: it is one of several, and no WORLD_SIZE says what they are to each other.
    """
    tasks = os.environ.get("SLURM_STEP_NUM_TASKS", "1")
    if tasks == "1" or "WORLD_SIZE" in os.environ:
        return
    raise ValueError(
        f"srun has started {tasks} tasks, and each would train alone: start one task on each "
        "machine that runs torchrun, see docs/reference/distributed.md; where each is to be a "
        "run of its own, in another folder, set WORLD_SIZE=1"
    )


def _refuse_half_a_world(size: int, on_cards: bool) -> None:
    """Name the variables without which processes do not find each other, or their cards."""
    needed = ["RANK", "MASTER_ADDR", "MASTER_PORT", *(["LOCAL_RANK"] if on_cards else [])]
    if missing := [name for name in needed if name not in os.environ]:
        raise ValueError(
            f"WORLD_SIZE is {size}, but {', '.join(missing)} not set: start the {size} processes "
            f"by torchrun (torchrun --standalone --nproc-per-node {size} -m pippin ...), which "
            "sets them all; for one process unset WORLD_SIZE"
        )


def shared(loss: StepLoss, world: World, parallel: str) -> nn.Module:
    """The loss with gradients averaged over all processes, see ``train.parallel``. Build
    optimizers and averages afterwards: FSDP replaces the parameters by parts."""
    if parallel == "fsdp":
        _shard(loss, world)
        return loss
    return _replicated(loss)


def _replicated(module: nn.Module) -> nn.Module:
    with warnings.catch_warnings():
        # Newer versions of torch rename the option and older ones do not know the new name.
        warnings.filterwarnings("ignore", "`broadcast_buffers`", FutureWarning)
        return DistributedDataParallel(
            module, broadcast_buffers=False, gradient_as_bucket_view=True
        )


def _shard(loss: StepLoss, world: World) -> None:
    """Block by block, then the rest. Weights are gathered in fp32, and autocast rounds what it
    rounds under DDP: gathered in bf16, gains of norms and MDTv2's tables would be rounded too."""
    mesh = init_device_mesh(next(loss.parameters()).device.type, (world.size,))
    # Torch warns of blocks that return views: adding in place to one would break its hook. No
    # denoiser changes what its blocks return.
    warnings.filterwarnings("ignore", "FSDP2-wrapped module", UserWarning)
    for block in loss.model.denoiser.blocks:
        fully_shard(block, mesh=mesh)
    fully_shard(loss, mesh=mesh)


def _current() -> World:
    if not dist.is_initialized():
        return World()
    patient = dist.new_group(backend="gloo", timeout=LONG_PATIENCE)
    assert isinstance(patient, dist.ProcessGroup)  # all are members
    return World(rank=dist.get_rank(), size=dist.get_world_size(), patient=patient)


def take_card(local_rank: int, processes: int, given: str) -> None:
    """Let ``cuda`` be this card.

    Args:
        local_rank: which card.
        processes: on this machine, each with a card of its own.
        given: the option that asked for them, for the message.

    Raises:
        ValueError: fewer cards than processes: said by all of them, before they meet.
    """
    cards = torch.cuda.device_count()
    if processes > cards:
        raise ValueError(
            f"{given} asks for {processes} processes with a card each on this machine; visible "
            f"are {cards} (see CUDA_VISIBLE_DEVICES): start {cards} or fewer, or give "
            "train.device cpu"
        )
    torch.cuda.set_device(local_rank)
