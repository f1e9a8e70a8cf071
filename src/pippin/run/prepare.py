# SPDX-License-Identifier: Apache-2.0
"""``pippin data prepare``: the caches that training reads, built by one process or several."""

import multiprocessing
import os
import pickle
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from multiprocessing.context import SpawnProcess

import torch
from rich.console import Console

from pippin.config import ConfigError
from pippin.data.moments import MomentSource
from pippin.recipes.recipe import Recipe
from pippin.run.builders import Builders, builders_of
from pippin.run.check_data import check_data
from pippin.run.parts import Parts
from pippin.system.children import call_in_child, killed_worker
from pippin.system.stop import in_main_thread, signals_interrupt
from pippin.system.terminal import note
from pippin.training.world import joined, take_card

GRACE = 3.0
"""Seconds that a stopped process has to end by itself."""


def prepare(recipe: Recipe, *, processes: int = 1, console: Console | None = None) -> MomentSource:
    """Build the caches of a recipe: latents, bucket by bucket, and captions where it reads text.

    Several processes share the work: those that torchrun started, ``processes`` on this machine,
    and any others that were given the same settings. They meet only in the caches' folders.

    Args:
        recipe: whose training pictures are cached, whether or not its cache is enabled.
        processes: on this machine, this one among them; the others start when shards are missing.
        console: where progress is shown.

    Raises:
        ConfigError: processes below 1 or started twice, or parts that do not fit.
        ValueError: pictures that cannot be used, or fewer cards than processes.
        OSError: no room; whole shards stay.
    """
    recipe = replace(recipe, cache=replace(recipe.cache, enabled=True))
    console = console or Console(stderr=True)
    if processes < 1:
        raise ConfigError(f"--processes must be 1 or more; got {processes}")
    with joined(recipe.train.device) as world:
        if world.size > 1 and processes > 1:
            raise ConfigError(
                f"torchrun has started {world.size} processes already: leave --processes out"
            )
        if world.size > 1:
            with world.first_alone():  # which looks into every picture, the others at its notes
                check_data(Parts(recipe, Console(quiet=True)))
        with _helped(recipe, processes, console) as builders:
            return _build(recipe, console, builders_of(world) if world.size > 1 else builders)


def _build(recipe: Recipe, console: Console, builders: Builders) -> MomentSource:
    parts = Parts(recipe, console, builders)
    if builders.first:  # before any other process is started
        check_data(parts)
    moments, _ = parts.moments, parts.captions
    if builders.first:
        parts.say_cut_captions()
    return moments


@contextmanager
def _helped(recipe: Recipe, processes: int, console: Console) -> Iterator[Builders]:
    """The builders; the other processes start when shards are missing, and end with the body."""
    if processes == 1:
        yield Builders()
        return
    take_place(recipe, 0, processes)
    helpers: list[SpawnProcess] = []

    def start(missing: int) -> None:
        for place in range(len(helpers) + 1, min(processes, missing)):
            helpers.append(_started(recipe, place, processes))

    try:
        yield Builders(ready=start)
    except BaseException:
        for helper in helpers:
            helper.terminate()
        deadline = time.monotonic() + GRACE
        for helper in helpers:
            helper.join(max(0.0, deadline - time.monotonic()))
            helper.kill()  # where it waits for a slow disk; what it began is made again
            helper.join()
        raise
    for place, helper in enumerate(helpers, start=1):
        helper.join()
        if helper.exitcode:
            killed = helper.exitcode == -signal.SIGKILL
            advice = ", killed: out of memory? fewer --processes take less" if killed else ""
            note(
                console,
                f"ended early (exit code {helper.exitcode}{advice}); the others made its part",
                label=f"process {place}",
            )


def _started(recipe: Recipe, place: int, processes: int) -> SpawnProcess:
    """One more process. Ctrl-C reaches all of them at once; only the first heeds it."""
    call = pickle.dumps((_help, (recipe, place, processes)))
    helper = multiprocessing.get_context("spawn").Process(target=call_in_child, args=(call,))
    if not in_main_thread():  # which alone may change what is ignored
        helper.start()
        return helper
    heeds = signal.signal(signal.SIGINT, signal.SIG_IGN)  # a new process inherits what is ignored
    try:
        helper.start()
    finally:
        signal.signal(signal.SIGINT, heeds)
    return helper


def _help(recipe: Recipe, place: int, processes: int) -> None:
    """One of the other processes: it ends when the first one does, however that ends."""
    console = Console(stderr=True)
    try:
        with signals_interrupt():
            take_place(recipe, place, processes)
            _build(recipe, console, Builders(first=False))
    except KeyboardInterrupt:
        sys.exit(0)  # asked to by the first, which says how to go on
    except (OSError, ValueError, RuntimeError, MemoryError) as error:
        note(console, f"process {place}: {killed_worker(error) or error}")
        sys.exit(1)


def take_place(recipe: Recipe, place: int, processes: int) -> None:
    """A card of its own, or its share of the processor's cores."""
    device = recipe.train.device
    if ":" in device:
        raise ConfigError(
            f"train.device {device} would put {processes} processes on one card: give "
            "cuda, and each takes its own"
        )
    if torch.cuda.is_available() and device != "cpu":
        take_card(place, processes, "--processes")
    elif "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(1, torch.get_num_threads() // processes))
