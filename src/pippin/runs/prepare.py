# SPDX-License-Identifier: Apache-2.0
"""``pippin data prepare``: check the data and build the caches of training."""

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
from pippin.data.folder.listing import InvalidSourceError
from pippin.data.folder.metadata_columns import CAPTIONS, CLASS, FILE, MAIN
from pippin.data.moments import MomentSource
from pippin.data.sources.images import ImageFolderSource
from pippin.distributed.groups import Builders, builders_of
from pippin.distributed.world import distributed_world, set_device
from pippin.recipes.recipe import Recipe
from pippin.runs.components import Parts
from pippin.system.signals import in_main_thread, signals_interrupt
from pippin.system.text import print_above_progress
from pippin.system.worker_processes import run_pickled_call, worker_failure_message


def check_data(parts: Parts, *, resumed: bool = False) -> None:
    """Refuse image folders that are probably a mistake, and log what a user may not expect.

    Args:
        parts: components of the training run.
        resumed: whether the run resumes; then nothing is refused, because it started like this.

    Raises:
        InvalidSourceError: folders of splits would become classes, or a text model would read no
            caption at all; the message says what to type.
    """
    source = parts.train_source
    if not isinstance(source, ImageFolderSource):
        return
    path, console = source.config.path, parts.console
    refusals = [source.facts.refusal(path), *_missing_captions(parts, source)]
    for refusal in filter(None, refusals):
        if not resumed:
            raise InvalidSourceError(refusal)
        print_above_progress(console, refusal, label="check the data:")
    for warning in (*source.facts.warnings(path), *_few_captions(parts, source)):
        print_above_progress(console, warning, label="check the data:")
    for line in source.facts.skipped_lines():
        print_above_progress(console, line, label="skipped:")


def caption_counts(source: ImageFolderSource) -> dict[str, int]:
    """Number of images that have a caption of each kind; kinds of the folder only."""
    counts = dict.fromkeys(source.caption_kinds, 0)
    for index in range(len(source)):
        for kind in source.record(index).captions:
            counts[kind] += 1
    return counts


def _missing_captions(parts: Parts, source: ImageFolderSource) -> Iterator[str]:
    """Errors for kinds of captions that the recipe trains on and no image has."""
    for kind, count in _counts_read(parts, source).items():
        if count:
            continue
        if kind != MAIN:
            yield (
                f"no training image of {source.config.path} has a caption of the kind {kind}: "
                f"fill that column, or leave {kind} out of --text.captions"
            )
            continue
        similar = source.facts.near.get("caption")
        rename = f"Rename the column {similar!r} to {CAPTIONS[0]}; or give" if similar else "Give"
        yield (
            f"no training image of {source.config.path} has a caption, and the recipe trains on "
            f"captions (text.captions {', '.join(parts.recipe.text.captions)}): each image would "
            f"be trained with the name of its class ({_listed(source.class_names)}). {rename} "
            f"a metadata.csv with the columns {FILE} and {CAPTIONS[0]}, or a text file beside "
            f"each image; to train on class names, type --text.captions {CLASS} 1"
        )


def _few_captions(parts: Parts, source: ImageFolderSource) -> Iterator[str]:
    """Warnings for kinds of captions that the recipe trains on and some images lack."""
    total = len(source)
    for kind, count in _counts_read(parts, source).items():
        if 0 < count < total:
            instead = "" if kind == MAIN else "their main caption, or where there is none "
            yield (
                f"{total - count} of {total} training images ({1 - count / total:.1%}) have no "
                f"caption of the kind {kind}: they are trained with {instead}the name of their "
                "class"
            )


def _counts_read(parts: Parts, source: ImageFolderSource) -> dict[str, int]:
    """Caption counts of the kinds that the recipe reads and the folder has; always of the main."""
    if parts.text_rule is None:
        return {}
    counts = {MAIN: 0} | caption_counts(source)
    return {kind: counts[kind] for kind in parts.recipe.text.captions if kind in counts}


def _listed(names: tuple[str, ...], shown: int = 3) -> str:
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(names[:shown]) + more


TERMINATION_TIMEOUT = 3.0
"""Seconds until a terminated process is killed."""


def prepare(recipe: Recipe, *, processes: int = 1, console: Console | None = None) -> MomentSource:
    """Build the caches of a recipe: latents, bucket by bucket, and captions where it reads text.

    Several processes share the work: those of torchrun, ``processes`` on this machine, and any
    others with the same settings. They coordinate through the caches' folders only.

    Args:
        recipe: the recipe whose training images are cached, whether or not its cache is enabled.
        processes: number of processes on this machine, including this one; the others start when
            shards are missing.
        console: for progress.

    Raises:
        ConfigError: processes below 1 or started twice, or settings that do not fit.
        ValueError: images that cannot be used, or fewer GPUs than processes.
        OSError: disk full; complete shards stay.
    """
    recipe = replace(recipe, cache=replace(recipe.cache, enabled=True))
    console = console or Console(stderr=True)
    if processes < 1:
        raise ConfigError(f"--processes must be 1 or more; got {processes}")
    with distributed_world(recipe.train.device) as world:
        if world.size > 1 and processes > 1:
            raise ConfigError(
                f"torchrun has started {world.size} processes already: leave --processes out"
            )
        if world.size > 1:
            with world.rank0_first():  # rank 0 scans the images, the others read its index
                check_data(Parts(recipe, Console(quiet=True)))
        with _spawning_builders(recipe, processes, console) as builders:
            return _build(recipe, console, builders_of(world) if world.size > 1 else builders)


def _build(recipe: Recipe, console: Console, builders: Builders) -> MomentSource:
    parts = Parts(recipe, console, builders)
    if builders.is_main:  # before any other process is started
        check_data(parts)
    moments, _ = parts.moments, parts.captions
    if builders.is_main:
        parts.warn_truncated_captions()
    return moments


@contextmanager
def _spawning_builders(recipe: Recipe, processes: int, console: Console) -> Iterator[Builders]:
    """The builders; the other processes start when shards are missing, and end with the body."""
    if processes == 1:
        yield Builders()
        return
    set_process_device(recipe, 0, processes)
    helpers: list[SpawnProcess] = []

    def start(missing: int) -> None:
        for rank in range(len(helpers) + 1, min(processes, missing)):
            helpers.append(_start_helper(recipe, rank, processes))

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


def _start_helper(recipe: Recipe, rank: int, processes: int) -> SpawnProcess:
    """Start one more process. Ctrl-C reaches all processes; only the main one handles it."""
    call = pickle.dumps((_run_helper, (recipe, rank, processes)))
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


def _run_helper(recipe: Recipe, rank: int, processes: int) -> None:
    """Main function of a helper process; it ends when the main process ends."""
    console = Console(stderr=True)
    try:
        with signals_interrupt():
            set_process_device(recipe, rank, processes)
            _build(recipe, console, Builders(is_main=False))
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
