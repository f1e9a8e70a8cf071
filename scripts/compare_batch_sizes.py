# SPDX-License-Identifier: Apache-2.0
"""Sample the same seeds in batches of several sizes and print the largest differences.

    python scripts/compare_batch_sizes.py RUN --seeds 10 --batch-sizes 1 3 10

RUN: a run folder, an exported folder or the name of a shipped model. An image of a seed depends
on its batch by rounding only; this prints the difference in latents and in levels of 255.
"""

import argparse
from dataclasses import replace

import torch
from rich.console import Console

from pippin.sampling.load import LoadedRun, load_run
from pippin.sampling.request import request_conditions


def sampled(run: LoadedRun, count: int, batch_size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Latents and images of seeds 0 .. count - 1, classes in turn."""
    config = replace(run.recipe.sampling, batch_size=batch_size)
    labels = [seed % len(run.class_names) for seed in range(count)]
    conditions = request_conditions(
        labels, config.control, run.control_names, num_classes=len(run.class_names)
    )
    autoencoder = run.components.autoencoder
    shape = autoencoder.latent_shape(run.recipe.data.resolution)
    latents = run.sampler(config).latents(conditions, list(range(count)), shape)
    return latents, autoencoder.decode(latents).int()


def main() -> None:
    """Parse, sample, compare with the first batch size."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[1, 3, 10])
    options = parser.parse_args()
    run = load_run(options.run, console=Console(stderr=True))
    first, *others = options.batch_sizes
    latents, images = sampled(run, options.seeds, first)
    print(f"{options.seeds} seeds, largest latent {float(latents.abs().max()):.3f}")
    for other in others:
        other_latents, other_images = sampled(run, options.seeds, other)
        latent = float((other_latents - latents).abs().max())
        level = int((other_images - images).abs().max())
        print(f"batch {other} against {first}: latents {latent:.2e}, images {level} of 255")


if __name__ == "__main__":
    main()
