# SPDX-License-Identifier: Apache-2.0
"""Ranks that train one model together: started by torchrun, or a single process.

``torchrun --nproc-per-node 4 -m pippin train ...`` sets RANK, WORLD_SIZE and LOCAL_RANK. Without
them there is one process, and the same code runs without a process group.
"""

import os
import time
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.nn.parallel import DistributedDataParallel

from pippin.distributed.attempts import process_group_options
from pippin.distributed.ranks import get_world_size
from pippin.system.device import to_device
from pippin.system.signals import STOPS, TrainingDivergedError, TrainingStoppedError
from pippin.system.workers.processes import end_with_launcher

STEP_TIMEOUT = timedelta(hours=2)
"""Timeout of collectives inside a step. Rank 0 may start a step late, after previews and
validation."""
SETUP_TIMEOUT = timedelta(days=1)
"""Timeout of collectives outside steps, while rank 0 verifies a large cache, scans all images or
evaluates. The loss of rank 0 is detected at once."""
POLL_INTERVAL = 0.05
"""Seconds between polls of a pending collective; signals are handled in between."""


@dataclass(frozen=True, kw_only=True)
class World:
    """Rank and world size of this process, among those that share each batch."""

    rank: int = 0
    size: int = 1
    setup_group: dist.ProcessGroup | None = None
    """Process group of all ranks with :data:`SETUP_TIMEOUT`. It uses gloo, so that waiting ranks
    keep no GPU busy. None = the default group."""

    @property
    def is_rank0(self) -> bool:
        """Whether this is rank 0, which writes files and shows progress."""
        return self.rank == 0

    def local_rows(self, count: int) -> slice:
        """This rank's rows of a global batch."""
        share = count // self.size
        return slice(self.rank * share, (self.rank + 1) * share)

    def barrier(self) -> None:
        """Wait for all ranks, with the long timeout."""
        self.any_rank(False)

    def any_rank(self, here: bool) -> bool:
        """All-reduce a flag with the long timeout: whether it is true on any rank."""
        count = torch.tensor(float(here))
        if self.size > 1:
            wait_for_collective(dist.all_reduce(count, group=self.setup_group, async_op=True))
        return bool(count)

    def broadcast(self, values: Tensor) -> Tensor:
        """Broadcast rank 0's values, on the CPU, in place, with the long timeout."""
        if self.size > 1:
            wait_for_collective(dist.broadcast(values, 0, self.setup_group, async_op=True))
        return values

    def all_reduce_sum(self, values: Tensor) -> Tensor:
        """All-reduce a sum over all ranks, in place."""
        if self.size > 1:
            dist.all_reduce(values)
        return values

    @contextmanager
    def rank0_first(self) -> Iterator[None]:
        """Run the body on rank 0 first, then on the other ranks, for preparing shared files."""
        if not self.is_rank0:
            self.barrier()
        yield
        if self.is_rank0:
            self.barrier()


SINGLE_RANK = World()


def wait_for_collective(work: Any) -> None:
    """Wait for a collective started with ``async_op`` by polling: torch's own wait would block
    signal handlers.

    Raises:
        RuntimeError: another rank has died.
    """
    while not work.is_completed():
        time.sleep(POLL_INTERVAL)
    work.wait()


@contextmanager
def distributed_world(device: str) -> Iterator[World]:
    """World described by torchrun's variables; the process group lives as long as the body.

    Args:
        device: as in ``train.device``; cuda and auto use the GPU of LOCAL_RANK.

    After an error on one rank the group is not destroyed: that would wait for all ranks, which may
    be in the middle of a step. torchrun ends them after this rank has reported its error. If
    torchrun itself is killed, its ranks end with it.

    Raises:
        ValueError: missing or inconsistent variables, one GPU for all ranks, or fewer GPUs than
            ranks on this machine.
    """
    size = get_world_size()
    if size == 1 or dist.is_initialized():
        yield _current()
        return
    end_with_launcher()
    if ":" in device:
        raise ValueError(
            f"train.device {device} would put {size} processes on one GPU: give cuda, so that "
            "each uses the GPU of its LOCAL_RANK"
        )
    on_gpus = torch.cuda.is_available() and device != "cpu"
    _check_variables(size, on_gpus)
    if on_gpus:
        local_rank = int(os.environ["LOCAL_RANK"])
        local_size = int(os.environ.get("LOCAL_WORLD_SIZE", local_rank + 1))
        set_device(local_rank, local_size, "--nproc-per-node of torchrun")
    options = process_group_options(STEP_TIMEOUT)
    dist.init_process_group("nccl" if on_gpus else "gloo", timeout=STEP_TIMEOUT, **options)
    world = _current()
    if world.size != size:
        raise ValueError(f"WORLD_SIZE is {size}, but the process group has {world.size} processes")
    try:
        yield world
    except (
        TrainingStoppedError,
        TrainingDivergedError,
    ):  # raised by all ranks after the same step
        dist.destroy_process_group()
        raise
    dist.destroy_process_group()


def refuse_unconnected_tasks() -> None:
    """Refuse to train in one of several unconnected srun tasks: each would train the whole run on
    one GPU, and all but one would find the folder in use.

    A shell or script inside an allocation is not a step of several tasks, whatever SLURM_NTASKS
    says, and a job of submitit is a step of one task.

    Raises:
        ValueError: one of several tasks, and WORLD_SIZE is not set.
    """
    tasks = os.environ.get("SLURM_STEP_NUM_TASKS", "1")
    if tasks == "1" or "WORLD_SIZE" in os.environ:
        return
    raise ValueError(
        f"srun has started {tasks} tasks, and each would train separately: start one task per "
        "machine that runs torchrun, see docs/reference/distributed.md; for independent runs in "
        "separate folders set WORLD_SIZE=1"
    )


def _check_variables(size: int, on_gpus: bool) -> None:
    """Refuse missing variables that ranks need to find each other, or their GPUs."""
    needed = ["RANK", "MASTER_ADDR", "MASTER_PORT", *(["LOCAL_RANK"] if on_gpus else [])]
    if missing := [name for name in needed if name not in os.environ]:
        raise ValueError(
            f"WORLD_SIZE is {size}, but {', '.join(missing)} not set: start the {size} processes "
            f"with torchrun (torchrun --standalone --nproc-per-node {size} -m pippin ...), which "
            "sets them all; for one process unset WORLD_SIZE"
        )


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
    parts: dict[str, float] = field(default_factory=dict)
    """Parts of the loss that are logged by themselves, means of the global batch."""


def sync_step_status(
    world: World,
    loss: Tensor,
    norm: Tensor,
    stop_signal: int | None,
    save_failed: bool,
    parts: Mapping[str, Tensor] | None = None,
) -> StepStatus:
    """Share each rank's status in one all-reduce, so that no rank waits for one that has exited.
    The CPU waits for a GPU once, for all numbers together.

    Args:
        world: the ranks.
        loss: mean over this rank's rows.
        norm: of the averaged gradient, equal on all ranks.
        stop_signal: the signal that this rank received.
        save_failed: whether this rank failed to save a checkpoint.
        parts: parts of the loss by name, means over this rank's rows; the same names on all ranks.
    """
    parts = parts or {}
    if world.size == 1:
        loss_value, norm_value, *values = torch.stack([loss, norm, *parts.values()]).tolist()
        named = dict(zip(parts, values, strict=True))
        return StepStatus(loss=loss_value, norm=norm_value, parts=named)
    flags = [save_failed, *(stop_signal == signal for signal in STOPS)]
    here = to_device(torch.tensor(flags, dtype=torch.float64), loss.device)
    means = torch.stack([loss, *parts.values()]).double()
    shared = world.all_reduce_sum(torch.cat([means, here]))
    norm_value, *totals = torch.cat([norm.double()[None], shared]).tolist()
    total, *sums = totals[: len(means)]
    failed, *stops = totals[len(means) :]
    return StepStatus(
        loss=total / world.size,
        norm=norm_value,
        stop=next((signal for signal, count in zip(STOPS, stops, strict=True) if count), None),
        save_failed=failed > 0,
        parts={name: value / world.size for name, value in zip(parts, sums, strict=True)},
    )


def wrap_parallel(
    loss: nn.Module, blocks: Iterable[nn.Module], world: World, parallel: str
) -> nn.Module:
    """Wrap a loss in DDP or FSDP, see ``train.parallel``. Build optimizers and averages
    afterwards: FSDP replaces the parameters by shards.

    Args:
        loss: with the model inside.
        blocks: of the model, sharded one by one.
        world: the ranks.
        parallel: ddp or fsdp.
    """
    if parallel == "fsdp":
        _shard(loss, blocks, world)
        return loss
    return _replicated(loss)


def _replicated(module: nn.Module) -> nn.Module:
    with warnings.catch_warnings():
        # Newer versions of torch rename the option; older ones lack the new name.
        warnings.filterwarnings("ignore", "`broadcast_buffers`", FutureWarning)
        return DistributedDataParallel(
            module, broadcast_buffers=False, gradient_as_bucket_view=True
        )


def _shard(loss: nn.Module, blocks: Iterable[nn.Module], world: World) -> None:
    """Shard block by block, then the rest. Weights are gathered in fp32 and autocast rounds the
    same values as under DDP: gathering in bf16 would also round norm gains and MDTv2's tables."""
    mesh = init_device_mesh(next(loss.parameters()).device.type, (world.size,))
    # Torch warns of blocks that return views: in-place changes of them would break its hook. No
    # denoiser changes a block's output in place.
    warnings.filterwarnings("ignore", "FSDP2-wrapped module", UserWarning)
    for block in blocks:
        fully_shard(block, mesh=mesh)
    fully_shard(loss, mesh=mesh)


def gradient_sync(loss: nn.Module, *, last: bool) -> AbstractContextManager[None]:
    """Context of a micro-batch that averages gradients over the ranks only with the last one.

    Args:
        loss: of :func:`wrap_parallel`, or of a single process.
        last: whether this is the last micro-batch of the step.
    """
    if isinstance(loss, FSDPModule):
        loss.set_requires_gradient_sync(last)
    if last or not isinstance(loss, DistributedDataParallel):
        return nullcontext()
    return loss.no_sync()


def _current() -> World:
    if not dist.is_initialized():
        return World()
    setup_group = dist.new_group(backend="gloo", timeout=SETUP_TIMEOUT)
    assert isinstance(setup_group, dist.ProcessGroup)  # every rank is a member
    return World(rank=dist.get_rank(), size=dist.get_world_size(), setup_group=setup_group)


def set_device(local_rank: int, processes: int, option: str) -> None:
    """Set the current CUDA device of this rank.

    Args:
        local_rank: index of the GPU.
        processes: number of ranks on this machine, each with its own GPU.
        option: the option that set the number, for the message.

    Raises:
        ValueError: fewer GPUs than ranks; raised on all ranks, before they connect.
    """
    gpus = torch.cuda.device_count()
    if processes > gpus:
        raise ValueError(
            f"{option} asks for {processes} processes with a GPU each on this machine; visible "
            f"are {gpus} (see CUDA_VISIBLE_DEVICES): start {gpus} or fewer, or give "
            "train.device cpu"
        )
    torch.cuda.set_device(local_rank)
