# SPDX-License-Identifier: Apache-2.0
"""Throughput of data-parallel training against processes."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
import torch.distributed as dist

from pippin.bench.scaling.config import ScalingConfig
from pippin.bench.scaling.declarations import (
    PIPPIN,
    CurveDeclaration,
    CurveFamily,
    Law,
    Measured,
)
from pippin.bench.scaling.training_curves import base_case
from pippin.bench.scaling.training_step import TrainingCase, training_step
from pippin.bench.scaling.turns import take_turns
from pippin.distributed.world import World
from pippin.system.heap import retained_heap
from pippin.system.workers.pool import worker_pool

TIMEOUT = timedelta(minutes=10)
"""Timeout of a collective: the slowest rank may still be compiling kernels or paging memory in."""
ADVICE = "Give fewer --scaling.processes, or a smaller --scaling.batch-size"
Rank = Callable[..., list[float]]


def processes_family(config: ScalingConfig) -> CurveFamily:
    """Curve of processes, each with the same batch, and an equal share of threads or a GPU."""
    device = base_case(config).device
    on_gpus = device.type == "cuda"
    threads = max(1, torch.get_num_threads() // max(config.processes))
    available = torch.cuda.device_count() if on_gpus else os.cpu_count() or 1
    each = "a GPU" if on_gpus else f"{threads} CPU thread{'s' if threads > 1 else ''}"
    law = Law(words="images/s grow as the processes", relative=float)
    declared = CurveDeclaration(
        key="processes",
        title="Training against processes",
        axis="processes",
        unit="images/s",
        better="higher",
        law=law,
        note=f"Each process has {each} and {config.batch_size} images a step (weak scaling); "
        "DDP averages the gradients",
    )
    return CurveFamily(
        name="processes",
        points=config.processes,
        curves=(declared,),
        cost=lambda processes: 1.0,
        measure=lambda processes: _measure(processes, threads, config),
        limit=available,
        limit_words=f"this machine has {available} {'GPUs' if on_gpus else 'CPU cores'}",
    )


def _measure(processes: int, threads: int, config: ScalingConfig) -> Measured:
    if processes == 1:
        with _threads(threads):
            seconds = _seconds(base_case(config), World(), config.seconds)
    else:
        seconds = run_ranks(processes, rank_seconds, threads, config)
    images = processes * config.batch_size
    return Measured(
        values={"processes": {PIPPIN: [images / one for one in seconds]}},
        call_seconds=max(seconds),
    )


def run_ranks(size: int, work: Rank, *arguments: Any) -> list[float]:
    """Result of rank 0 of ``work(rank, size, init_file, *arguments)`` in new processes."""
    with TemporaryDirectory() as folder, worker_pool(size, ADVICE) as submit:
        init_file = str(Path(folder).resolve() / "init")
        futures = [submit(work, rank, size, init_file, *arguments) for rank in range(size)]
        first, *_ = [future.result() for future in futures]
    return first


def rank_seconds(
    rank: int, size: int, init_file: str, threads: int, config: ScalingConfig
) -> list[float]:
    """Seconds of the steps of one rank, each the maximum over all ranks.

    Args:
        rank: from 0.
        size: number of ranks, which find each other by ``init_file``.
        init_file: a new file.
        threads: CPU threads of each rank.
        config: of the curve.
    """
    case = base_case(config)
    on_gpus = case.device.type == "cuda"
    if on_gpus:
        torch.cuda.set_device(rank)
        case = replace(case, device=torch.device("cuda", rank))
    place = f"file://{init_file}"
    backend = "nccl" if on_gpus else "gloo"
    dist.init_process_group(backend, place, TIMEOUT, world_size=size, rank=rank)
    try:
        group = dist.new_group(backend="gloo", timeout=TIMEOUT)
        assert isinstance(group, dist.ProcessGroup)  # every rank is a member
        world = World(rank=rank, size=size, setup_group=group)
        case = replace(case, batch_size=size * case.batch_size)
        with _threads(threads):
            return _seconds(case, world, config.seconds)
    finally:
        dist.destroy_process_group()


def _seconds(case: TrainingCase, world: World, seconds: float) -> list[float]:
    """Seconds of each step, the maximum over the ranks."""

    def maximum(own: float) -> float:
        value = torch.tensor(own)
        if world.size > 1:
            dist.all_reduce(value, dist.ReduceOp.MAX, group=world.setup_group)
        return value.item()

    step = training_step(case, world)
    with retained_heap(case.device):  # as while training
        return take_turns({PIPPIN: step}, seconds, case.device, maximum)[PIPPIN]


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """Number of CPU threads within the body."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
