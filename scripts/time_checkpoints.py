# SPDX-License-Identifier: Apache-2.0
"""Training time with many checkpoints: synchronous against asynchronous saving, alternately.

    python scripts/time_checkpoints.py --folder DIR
    python scripts/time_checkpoints.py --folder DIR --recipe published/dit-s2 --device cuda

DIR is on the disk to measure. Data are synthetic and the recipe's model has initial weights.
Prints a markdown table; the ratio is of total times within a round, and above 1 asynchronous
saving is faster.
"""

import argparse
import shutil
import statistics
import time
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import torch
from rich.console import Console

from pippin.bench.measure import SyntheticMoments
from pippin.data.loader import LatentLoader
from pippin.recipes.recipe import Recipe
from pippin.recipes.table import get_recipe
from pippin.runs.components import Components
from pippin.training.train import build_trainer


def rank_batches(recipe: Recipe) -> Components:
    """Components of a recipe with synthetic data."""
    components = Components(recipe, Console(quiet=True))
    components.moments = SyntheticMoments(
        components.latent_shape, len(components.class_names), 256
    )
    return components


def trained(components: Components, folder: Path) -> tuple[float, float, float]:
    """Seconds of a whole run and of its longest step, and megabytes per checkpoint."""
    shutil.rmtree(folder, ignore_errors=True)
    trainer, train = build_trainer(components, folder), components.recipe.train
    loader = LatentLoader(
        components.moments,
        components.autoencoder,
        batch_size=train.batch_size,
        seed=0,
        device=components.device,
        captions=components.captions,
    )
    ends = [time.perf_counter()]
    trainer.train(loader, [lambda *_: ends.append(time.perf_counter())])
    whole = time.perf_counter() - ends[0]
    steps = [later - earlier for earlier, later in pairwise(ends[1:])]
    size = sum(file.stat().st_size for file in folder.rglob("*.safetensors"))
    shutil.rmtree(folder)
    return whole, max(steps), size / train.keep_checkpoints / 1e6


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, required=True, help="on the disk to measure; new")
    parser.add_argument("--recipe", default="openmoji/mmdit-disentangled")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--steps", type=int, default=32)
    parser.add_argument("--every", type=int, default=8, help="steps between checkpoints")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    options.folder.mkdir(parents=True)
    recipe = get_recipe(options.recipe)
    train = replace(
        recipe.train,
        images=options.steps * options.batch_size,
        batch_size=options.batch_size,
        checkpoint_every=options.every * options.batch_size,
        keep_checkpoints=1,
        device=options.device,
    )
    components = rank_batches(recipe)
    timings: dict[bool, list[tuple[float, float, float]]] = {False: [], True: []}
    for _ in range(options.rounds):
        for overlap in (False, True):
            components.recipe = replace(recipe, train=replace(train, checkpoint_overlap=overlap))
            timings[overlap].append(trained(components, options.folder / "run"))
    print(
        f"{timings[False][0][2]:.0f} MB per checkpoint, every {options.every} of "
        f"{options.steps} steps"
    )
    print("\n| checkpoints | whole, s | longest step, s |\n| --- | --- | --- |")
    for overlap, name in ((False, "synchronous"), (True, "asynchronous")):
        whole, longest, _ = (statistics.median(x) for x in zip(*timings[overlap], strict=True))
        print(f"| {name} | {whole:.2f} | {longest:.2f} |")
    pairs = zip(timings[False], timings[True], strict=True)
    ratios = sorted(place[0] / overlap[0] for place, overlap in pairs)
    print(
        f"\nsynchronous / asynchronous: {statistics.median(ratios):.2f} "
        f"({ratios[0]:.2f} to {ratios[-1]:.2f} over {len(ratios)} rounds)"
    )


if __name__ == "__main__":
    main()
