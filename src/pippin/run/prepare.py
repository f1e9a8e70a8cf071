# SPDX-License-Identifier: Apache-2.0
"""``pippin data prepare``: the caches that training reads, built by one process or several."""

import multiprocessing
import multiprocessing.connection
import os
import signal
import sys
import threading
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
from pippin.system.stop import signals_interrupt
from pippin.training.world import joined, take_card


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
        for helper in helpers:
            helper.join()
        raise
    for place, helper in enumerate(helpers, start=1):
        helper.join()
        if helper.exitcode:
            console.print(
                f"[yellow]process {place}[/] ended early (exit code {helper.exitcode}); the "
                "others made its part"
            )


def _started(recipe: Recipe, place: int, processes: int) -> SpawnProcess:
    """One more process. Ctrl-C reaches all of them at once; only the first heeds it."""
    helper = multiprocessing.get_context("spawn").Process(
        target=_help, args=(recipe, place, processes)
    )
    heeds = signal.signal(signal.SIGINT, signal.SIG_IGN)  # a new process inherits what is ignored
    try:
        helper.start()
    finally:
        signal.signal(signal.SIGINT, heeds)
    return helper


def _help(recipe: Recipe, place: int, processes: int) -> None:
    """One of the other processes: it ends when the first one does, however that ends."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    console = Console(stderr=True)
    try:
        with signals_interrupt():
            take_place(recipe, place, processes)
            _build(recipe, console, Builders(first=False))
    except KeyboardInterrupt:
        sys.exit(0)  # asked to by the first, which says how to go on
    except (OSError, ValueError, RuntimeError, MemoryError) as error:
        console.print(f"process {place}: {error}", markup=False)
        sys.exit(1)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    multiprocessing.connection.wait([parent.sentinel])
    os.kill(os.getpid(), signal.SIGTERM)


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
