# SPDX-License-Identifier: Apache-2.0
"""Several ranks in one test: forked processes, so that torch is imported once."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from pippin.distributed.world import World


def run_ranks(size: int, work: Callable[[World, Path], Any], folder: Path) -> list[Any]:
    """Results of ``size`` ranks, in rank order.

    ``work(world, folder)`` runs in a gloo process group; a rank that raises ends all of them.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if size == 1:
        return [work(World(), folder)]
    mp.start_processes(_enter, (size, work, folder), nprocs=size, start_method="fork")
    return [torch.load(folder / f"result-{rank}", weights_only=True) for rank in range(size)]


def _enter(rank: int, size: int, work: Callable[[World, Path], Any], folder: Path) -> None:
    warnings.simplefilter("default")  # printed as in a program; pytest makes errors of them
    torch.set_num_threads(1)
    place = f"file://{folder.resolve()}/meeting"
    dist.init_process_group("gloo", init_method=place, rank=rank, world_size=size)
    try:
        torch.save(work(World(rank=rank, size=size), folder), folder / f"result-{rank}")
    finally:
        dist.destroy_process_group()
