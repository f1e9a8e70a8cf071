# SPDX-License-Identifier: Apache-2.0
"""``pippin data prepare``: check the data and build the caches of training."""

import multiprocessing
import os
import pickle
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing.context import SpawnProcess

import torch
from rich.console import Console

from pippin.config import ConfigError
from pippin.data.cache.builders import Builders
from pippin.data.importing.config import ShardsConfig
from pippin.data.moments import MomentSource
from pippin.distributed.world import World, distributed_world, set_device
from pippin.recipes.recipe import Recipe
from pippin.runs.components import Components
from pippin.runs.data.check_data import BeforeStart, check_data
from pippin.runs.data.streamed import encode_shards, find_shards_config
from pippin.system.signals import in_main_thread, signals_interrupt
from pippin.system.text import print_above_progress
from pippin.system.workers.processes import run_pickled_call, worker_failure_message

BuildMoments = Callable[[Components], MomentSource]
TERMINATION_TIMEOUT = 3.0
"""Seconds until a terminated process is killed."""


def prepare(
    recipe: Recipe,
    *,
    processes: int = 1,
    console: Console | None = None,
    before: BeforeStart | None = None,
    shards: ShardsConfig | None = None,
    moments: BuildMoments | None = None,
) -> MomentSource:
    """Build the caches of a recipe: latents, bucket by bucket, captions where it reads text, and
    what ``moments`` adds.

    Several processes share the work: those of torchrun, ``processes`` on this machine, and any
    others with the same settings. They coordinate through the caches' folders only.

    Args:
        recipe: the recipe whose training images are cached, whether or not its cache is enabled.
        processes: number of processes on this machine, including this one; the others start when
            shards are missing.
        console: for progress.
        before: checks that rank 0 makes before anything is read or written.
        shards: shards to encode into the caches of ``data.path`` without unpacking them; None =
            those that it was prepared from, or its image files.
        moments: function of a module that builds the latents and further caches in every process,
            such as :func:`pippin.training.repa.features.training_moments`; None = latents only.

    Raises:
        ConfigError: processes below 1 or started twice, or settings that do not fit.
        ValueError: images that cannot be used, or fewer GPUs than processes.
        OSError: disk full; complete shards stay.
    """
    recipe = replace(recipe, cache=replace(recipe.cache, enabled=True))
    console, given = console or Console(stderr=True), shards is not None
    source = find_shards_config(recipe, shards)
    if processes < 1:
        raise ConfigError(f"--processes must be 1 or more; got {processes}")
    with distributed_world(recipe.train.device) as world:
        if world.size > 1 and processes > 1:
            raise ConfigError(
                f"torchrun has started {world.size} processes already: leave --processes out"
            )
        with world.rank0_first():  # before any other process is started
            if before is not None and world.is_rank0:
                before(recipe, recipe)
        if world.size > 1:
            if source is not None:
                encode_shards(recipe, source, builders_of(world), console, given=given)
                given = False
            with world.rank0_first():  # rank 0 scans the images, the others read its index
                check_data(Components(recipe, Console(quiet=True)))
        work = _Work(recipe=recipe, shards=source, given=given, moments=moments)
        with _spawning_builders(work, processes, console) as builders:
            return _build(work, console, builders_of(world) if world.size > 1 else builders)


def builders_of(world: World) -> Builders:
    """Builders for the ranks of a training; all ranks need the same caches in the same order."""
    if world.is_rank0:
        return Builders(ready=lambda missing: world.barrier())
    return Builders(is_main=False, wait=world.barrier)


@dataclass(frozen=True, kw_only=True)
class _Work:
    """Caches that each process builds."""

    recipe: Recipe
    shards: ShardsConfig | None
    """Source of the images, if they are encoded from shards."""
    given: bool
    """Whether the user named the source."""
    moments: BuildMoments | None
    """Builds further caches beside the latents."""


def _build(work: _Work, console: Console, builders: Builders) -> MomentSource:
    if work.shards is not None:
        encode_shards(work.recipe, work.shards, builders, console, given=work.given)
    components = Components(work.recipe, console, builders)
    if builders.is_main:  # before any other process is started
        check_data(components)
    _ = components.moments, components.captions
    moments = components.moments if work.moments is None else work.moments(components)
    if builders.is_main:
        components.warn_truncated_captions()
    return moments


@contextmanager
def _spawning_builders(work: _Work, processes: int, console: Console) -> Iterator[Builders]:
    """The builders; the other processes start when shards are missing, and end with the body."""
    if processes == 1:
        yield Builders()
        return
    set_process_device(work.recipe, 0, processes)
    helpers: list[SpawnProcess] = []

    def start(missing: int) -> None:
        for rank in range(len(helpers) + 1, min(processes, missing)):
            helpers.append(_start_helper(work, rank, processes))

    try:
        yield Builders(ready=start)
    except BaseException:
        for helper in helpers:
            helper.terminate()
        deadline = time.monotonic() + TERMINATION_TIMEOUT
        for helper in helpers:
            helper.join(max(0.0, deadline - time.monotonic()))
            helper.kill()  # it may wait for a slow disk; its unfinished shard is rebuilt
            helper.join()
        raise
    for rank, helper in enumerate(helpers, start=1):
        helper.join()
        if helper.exitcode:
            killed = helper.exitcode == -signal.SIGKILL
            advice = ", killed: out of memory? fewer --processes take less" if killed else ""
            print_above_progress(
                console,
                f"ended early (exit code {helper.exitcode}{advice}); the others built its shards",
                label=f"process {rank}",
            )


def _start_helper(work: _Work, rank: int, processes: int) -> SpawnProcess:
    """Start one more process. Ctrl-C reaches all processes; only the main one handles it."""
    call = pickle.dumps((_run_helper, (work, rank, processes)))
    helper = multiprocessing.get_context("spawn").Process(target=run_pickled_call, args=(call,))
    if not in_main_thread():  # only the main thread may change signal handlers
        helper.start()
        return helper
    handler = signal.signal(
        signal.SIGINT, signal.SIG_IGN
    )  # a new process inherits what is ignored
    try:
        helper.start()
    finally:
        signal.signal(signal.SIGINT, handler)
    return helper


def _run_helper(work: _Work, rank: int, processes: int) -> None:
    """Main function of a helper process; it ends when the main process ends."""
    console = Console(stderr=True)
    try:
        with signals_interrupt():
            set_process_device(work.recipe, rank, processes)
            _build(work, console, Builders(is_main=False))
    except KeyboardInterrupt:
        sys.exit(0)  # the main process asked for it and says how to resume
    except (OSError, ValueError, RuntimeError, MemoryError) as error:
        print_above_progress(console, f"process {rank}: {worker_failure_message(error) or error}")
        sys.exit(1)


def set_process_device(recipe: Recipe, rank: int, processes: int) -> None:
    """Give a process its own GPU, or its share of the CPU's cores."""
    device = recipe.train.device
    if ":" in device:
        raise ConfigError(
            f"train.device {device} would put {processes} processes on one GPU: give "
            "cuda, and each takes its own"
        )
    if torch.cuda.is_available() and device != "cpu":
        set_device(rank, processes, "--processes")
    elif "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(1, torch.get_num_threads() // processes))
