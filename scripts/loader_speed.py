# SPDX-License-Identifier: Apache-2.0
"""Throughput of the loader relative to training, its memory, and cache building by two processes.

    python scripts/loader_speed.py --folder DIR
    python scripts/loader_speed.py folder/mmdit-disentangled --folder DIR --data photos

First `pippin data prepare` builds the recipe's caches with 1 and with 2 processes, alternately:
seconds, and one hash over the bytes of all shards and manifests. Then the loader alone, without
workers and with 2, alternates with steps of the recipe's trainer on one batch: images/s, and the
ratio of loader to trainer within each round; below 20 the exit code is 1. Last, the memory of the
process and its workers over 10 000 batches: VmRSS, summed, so shared memory counts in each
process, and its anonymous part, without mapped files. DIR must be new or empty: an existing cache
would not be rebuilt.
"""

import argparse
import itertools
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch
from folder_content import content
from rich.console import Console

from pippin.data.config import ImagesConfig
from pippin.data.loader import LatentLoader
from pippin.recipes.recipe import Recipe
from pippin.recipes.table import get_recipe
from pippin.runs.components import Components
from pippin.training.train import build_trainer
from pippin.types import Batch

WORKERS = (0, 2)
PROCESSES = (1, 2)
MIN_RATIO = 20.0
LOADER_BATCHES = 100
"""Loader batches per round."""
STEPS = 6
"""Trainer steps per round."""
CHECKPOINTS = (1, 100, 1000, 4000, 7000, 10_000)
"""Numbers of batches after which memory is read, up to --batches."""


def in_folder(recipe: Recipe, folder: Path) -> Recipe:
    """Recipe with its caches in a folder."""
    return replace(
        recipe,
        cache=replace(recipe.cache, folder=str(folder)),
        text=replace(recipe.text, folder=str(folder)),
    )


def prepared(recipe: Recipe, folder: Path, processes: int) -> tuple[float, str]:
    """Seconds of the command, and the hash of its output."""
    folder.mkdir(parents=True)
    in_folder(recipe, folder).save(folder.with_suffix(".json"))
    command = ["data", "prepare", "--config", str(folder.with_suffix(".json"))]
    start = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "pippin", *command, "--processes", str(processes)],
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    return time.perf_counter() - start, content(folder)


def show_prepare(recipe: Recipe, folder: Path, rounds: int) -> bool:
    """Print seconds and hashes; whether all hashes are equal."""
    seconds: dict[int, list[float]] = {processes: [] for processes in PROCESSES}
    hashes = set()
    for number, processes in itertools.product(range(rounds), PROCESSES):
        took, found = prepared(recipe, folder / f"{number}-{processes}", processes)
        seconds[processes].append(took)
        hashes.add(found)
        print(f"data prepare, {processes} processes: {took:.1f} s, content {found}", flush=True)
    shares = [one / two for one, two in zip(seconds[1], seconds[2], strict=True)]
    print(f"time of one / time of two: {spread(shares)}; {len(hashes)} content", flush=True)
    return len(hashes) == 1


def batches_of(components: Components, workers: int) -> Iterator[Batch]:
    """Batches as in the recipe's training."""
    return iter(
        LatentLoader(
            components.moments,
            components.autoencoder,
            batch_size=components.recipe.train.batch_size,
            seed=components.recipe.seed,
            workers=workers,
            device=components.device,
            captions=components.captions,
        )
    )


def images_per_second(batches: Iterator[Batch], count: int, size: int) -> float:
    """Throughput of the loader without training."""
    for _ in range(5):
        next(batches)
    start = time.perf_counter()
    for _ in range(count):
        next(batches)
    return count * size / (time.perf_counter() - start)


def show_speed(components: Components, rounds: int) -> bool:
    """Print images/s and ratios; whether some number of workers reaches the minimum ratio."""
    size, trainer = components.recipe.train.batch_size, build_trainer(components, Path("unused"))
    trainer.model.train()
    batch = next(batches_of(components, 0))
    trainer.step(batch)
    speeds: dict[str, list[float]] = {name: [] for name in ("trainer", *map(str, WORKERS))}
    for _ in range(rounds):
        for workers in WORKERS:
            found = images_per_second(batches_of(components, workers), LOADER_BATCHES, size)
            speeds[str(workers)].append(found)
        start = time.perf_counter()
        for _ in range(STEPS):
            trainer.step(batch)
        if components.device.type == "cuda":
            torch.cuda.synchronize()
        speeds["trainer"].append(STEPS * size / (time.perf_counter() - start))
    print(f"trainer, batch {size}: {spread(speeds['trainer'])} images/s")
    best = 0.0
    for workers in WORKERS:
        pairs = zip(speeds[str(workers)], speeds["trainer"], strict=True)
        ratios = [loader / trainer for loader, trainer in pairs]
        best = max(best, statistics.median(ratios))
        print(
            f"loader, {workers} workers: {spread(speeds[str(workers)])} images/s, "
            f"{spread(ratios)} times the trainer",
            flush=True,
        )
    return best >= MIN_RATIO


def memory() -> tuple[float, float]:
    """MB of this process and its workers: resident, and the anonymous part."""
    found = {"VmRSS": 0, "RssAnon": 0}
    own = os.getpid()
    children = Path(f"/proc/{own}/task/{own}/children").read_text().split()
    for process in (str(own), *children):
        for line in Path(f"/proc/{process}/status").read_text().splitlines():
            name, _, value = line.partition(":")
            if name in found:
                found[name] += int(value.split()[0])
    return found["VmRSS"] / 1024, found["RssAnon"] / 1024


def show_memory(components: Components, workers: int, count: int) -> None:
    """Print the memory after numbers of batches."""
    checkpoints = [number for number in CHECKPOINTS if number <= count]
    seen = {}
    for number, _ in enumerate(
        itertools.islice(batches_of(components, workers), checkpoints[-1]), start=1
    ):
        if number in checkpoints:
            seen[number] = memory()
    shown = "; ".join(f"{n}: {rss:.1f} ({anon:.1f})" for n, (rss, anon) in seen.items())
    print(f"MB (anonymous) after batches, {workers} workers: {shown}")
    if 1000 in seen and checkpoints[-1] > 1000:
        rss, anon = (b - a for a, b in zip(seen[1000], seen[checkpoints[-1]], strict=True))
        print(f"growth from 1000 to {checkpoints[-1]}: {rss:+.1f} MB ({anon:+.1f})", flush=True)


def spread(values: list[float]) -> str:
    """Median, minimum and maximum."""
    return f"{statistics.median(values):.3g} ({min(values):.3g} to {max(values):.3g})"


def main() -> int:
    """Build caches, time, and measure memory."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recipe", nargs="?", default="openmoji/mmdit-disentangled")
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--data", help="custom image folder, for recipes folder/...")
    parser.add_argument("--images", type=int, help="number of images; default: all")
    parser.add_argument("--shard-size", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batches", type=int, default=10_000)
    options = parser.parse_args()
    recipe = get_recipe(options.recipe)
    if options.data:
        assert isinstance(recipe.data, ImagesConfig)
        recipe = replace(recipe, data=replace(recipe.data, path=options.data))
    recipe = replace(
        recipe,
        data=replace(recipe.data, max_pictures=options.images),
        cache=replace(recipe.cache, shard_size=options.shard_size),
    )
    same = show_prepare(recipe, options.folder, options.rounds)
    components = Components(in_folder(recipe, options.folder / "0-1"), Console(stderr=True))
    fast = show_speed(components, options.rounds)
    for workers in WORKERS:
        show_memory(components, workers, options.batches)
    return 0 if same and fast else 1


if __name__ == "__main__":
    sys.exit(main())
