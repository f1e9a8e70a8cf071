# SPDX-License-Identifier: Apache-2.0
"""Compare latents of several kinds: reconstruction, shape of their distribution, and samples of
one small denoiser on each, at equal budget.

    python scripts/latents_table.py --folder DIR

The data set is shapes at 32 pixels, one object an image. Kinds: pixels, the shipped KL
autoencoder, and a representation autoencoder on EfficientNet-lite0, whose decoder is trained
first; the latter also with the noise schedule rescaled by its dimension. All denoisers are a DiT
of 4 x 128 on 64 tokens with rectified flow. The same command resumes after a stop. Prints a
Markdown table.
"""

import argparse
import os
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from pippin.cli.autoencoder import TrainAutoencoderCommand, finish, training_batches
from pippin.data.config import CropConfig, ShapesConfig
from pippin.diffusion.config import DiffusionConfig, LogitNormalTime
from pippin.diffusion.rescale import rescale_for_numbers
from pippin.encoders.autoencoder import Autoencoder
from pippin.encoders.config import AutoencoderConfig, AutoencoderTrainConfig
from pippin.encoders.latent_measures import measure_latents_shape
from pippin.encoders.normalisation import to_pixels
from pippin.encoders.representation.config import RepresentationConfig
from pippin.encoders.source import WEIGHTS_FILE
from pippin.evaluation.config import EvaluationConfig
from pippin.evaluation.reconstruction import held_out_batches, reconstruction_figures
from pippin.recipes.table import get_recipe
from pippin.sampling.config import SamplingConfig
from pippin.studies.execution import execute
from pippin.studies.results import read
from pippin.studies.runner import run_study
from pippin.studies.study import Axis, Study
from pippin.training.autoencoder.trainer import AutoencoderTrainer

SIDE, TOKENS = 32, 8
"""Side of an image in pixels, and tokens along it."""
DATA = ShapesConfig(
    images=1000, held_out_images=256, objects=1, resolution=SIDE, crop_law=CropConfig()
)
PIXELS, KL, RAE, RESCALED = "pixels", "kl", "rae", "rae-rescaled"
METRICS = ("KID-efflite0", "FD-efflite0", "accuracy colour")


def train_decoder(folder: Path, images: int, seed: int, noise: float) -> None:
    """Train the decoder of the representation autoencoder, unless it is there."""
    if (folder / WEIGHTS_FILE).exists():
        return
    train = AutoencoderTrainConfig(
        images=images,
        batch_size=8,
        warmup_images=500,
        block_channels=(16, 32, 64),
        representation=RepresentationConfig(encoder="efflite0", noise=noise),
        seed=seed,
        checkpoint_every=1000,
    )
    command = TrainAutoencoderCommand(out=folder, train=train, data=DATA)
    trainer = AutoencoderTrainer(train, folder / "run", resume=True)
    trainer.train(
        lambda start: training_batches(command, start),
        lambda seen, figures: print(seen, figures, flush=True),
    )
    finish(command, trainer)


def latent_columns(autoencoder: Autoencoder) -> dict[str, Any]:
    """Shape, reconstruction and distribution of the latents of held-out images."""
    channels, rows, columns = autoencoder.latent_shape(SIDE)
    moments = [
        autoencoder.encode(to_pixels(images)).mean
        for _, images in zip(range(8), held_out_batches(DATA), strict=False)
    ]
    shape = measure_latents_shape(autoencoder.normalise(torch.cat(moments)))
    figures = reconstruction_figures(autoencoder, DATA)
    return {
        "latents": f"{channels} x {rows} x {columns}",
        "compression": f"{3 * SIDE**2 / (channels * rows * columns):.2f}",
        "PSNR": f"{figures['psnr_mean_of_images']:.1f}",
        "FD of reconstructions": f"{figures['FD-efflite0 of reconstructions']:.0f}",
        "kurtosis": f"{shape.excess_kurtosis:.1f}",
        "fine share": f"{shape.fine_share:.2f}",
        "effective channels": f"{shape.effective_channels:.1f}",
    }


def latent_study(
    sources: dict[str, str], numbers: int, images: int, seed: int, folder: Path
) -> Study:
    """Study with one arm per kind of latents."""
    base = get_recipe("shapes/dit-entangled")
    levels = {
        name: {
            "autoencoder.source": source,
            "denoiser.patch_size": SIDE // TOKENS if name == PIXELS else 1,
            "diffusion.rescale": rescale_for_numbers(numbers) if name == RESCALED else 1.0,
        }
        for name, source in sources.items()
    }
    return Study(
        name="latents-table",
        title="Latents of several kinds",
        question="On which latents does the same small denoiser give better images?",
        base=replace(
            base,
            data=DATA,
            diffusion=DiffusionConfig(
                schedule="flow", prediction="flow", time_density=LogitNormalTime()
            ),
            train=replace(
                base.train,
                images=images,
                batch_size=32,
                warmup_images=images // 16,
                preview_every=0,
                validate_every=0,
            ),
            cache=replace(base.cache, folder=str(folder / "caches")),
            sampling=SamplingConfig(solver="dpm++", steps=8),
            evaluation=EvaluationConfig(
                parts=("quality", "scene"),
                num_samples=128,
                kid_subset_size=64,
                kid_subsets=20,
                scene_samples=64,
                input_size=64,
            ),
        ),
        axes={"latents": Axis(levels=levels, description="what is diffused")},
        seeds=(seed,),
        primary="KID-efflite0",
        companions=("accuracy colour",),
        reproduce=(f"python scripts/latents_table.py {' '.join(sys.argv[1:])}",),
    )


def sample_columns(folder: Path, arm: str) -> dict[str, str]:
    """Measures of an arm's samples, and of its reconstructions by the reader."""
    rows = [row for row in read(folder / "results.jsonl").rows if row.arm == arm]
    columns = {}
    for row in rows:
        if row.subject == "arm" and row.metric in METRICS:
            columns[row.metric] = f"{row.value:.3g}"
        if row.subject == "real" and row.metric == "accuracy colour":
            columns["colour in reconstructions"] = f"{row.value:.2f}"
    return columns


def print_table(rows: dict[str, dict[str, Any]]) -> None:
    """Print the rows as Markdown."""
    columns = list(dict.fromkeys(name for values in rows.values() for name in values))
    print("| | " + " | ".join(columns) + " |", flush=True)
    print("| --- " * (len(columns) + 1) + "|")
    for name, values in rows.items():
        print(f"| {name} | " + " | ".join(str(values.get(c, "")) for c in columns) + " |")


def main() -> int:
    """Train what is missing, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--images", type=int, default=16_000, help="training images of a denoiser")
    parser.add_argument("--decoder-images", type=int, default=6_000)
    parser.add_argument("--noise", type=float, default=0.8, help="tau of the decoder's training")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    began, trained = time.perf_counter(), options.folder / "rae"
    train_decoder(trained, options.decoder_images, options.seed, options.noise)
    print(f"decoder: {time.perf_counter() - began:.0f} s", flush=True)
    sources = {PIXELS: "pippin/pixels", KL: "pippin/shapes-f4", RAE: str(trained)}
    sources[RESCALED] = str(trained)
    loaded = {name: Autoencoder.load(AutoencoderConfig(source=s)) for name, s in sources.items()}
    channels, height, width = loaded[RAE].latent_shape(SIDE)
    rows = {name: latent_columns(own) for name, own in loaded.items()}
    print_table(rows)
    place = options.folder / "study"
    study = latent_study(sources, channels * height * width, options.images, options.seed, place)
    summary = run_study(study, place, execute, progress=lambda text: print(text, flush=True))
    if summary.interrupted:
        return 75
    print_table({name: columns | sample_columns(place, name) for name, columns in rows.items()})
    print(f"{time.perf_counter() - began:.0f} s, {sum(os.times()[:4]):.0f} s of CPU time")
    return int("failed" in summary.statuses.values())


if __name__ == "__main__":
    sys.exit(main())
