# SPDX-License-Identifier: Apache-2.0
"""``pippin sample``: images of a run, a grid and a manifest with the whole protocol."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.progress import Progress

from pippin.config import fingerprint, protocol
from pippin.run.load import LoadedRun
from pippin.run.pictures import grid, save_png
from pippin.sampling.config import SamplingConfig
from pippin.sampling.request import request_conditions
from pippin.types import Images


@dataclass(frozen=True, kw_only=True)
class Samples:
    """Images with what made them."""

    seeds: tuple[int, ...]
    labels: tuple[int, ...]
    images: Images
    protocol: dict[str, Any]


def draw(
    run: LoadedRun, labels: Sequence[int], seeds: Sequence[int], config: SamplingConfig
) -> Samples:
    """One image a seed, in order.

    Args:
        labels: a class id for each seed.
        seeds: image k depends on seed k, its class and the configuration, by rounding only on
            anything else.

    Raises:
        ValueError: a class or control the model does not have.
    """
    conditional = bool(run.recipe.conditioning.rules)
    conditions = request_conditions(
        list(labels) if conditional else None,
        config.control,
        run.control_names,
        num_classes=len(run.class_names),
        count=len(seeds),
    )
    sampler = run.sampler(config)
    with Progress(console=run.parts.console, transient=True) as progress:
        task = progress.add_task("sampling", total=len(seeds))
        batches = sampler.batches(
            conditions,
            list(seeds),
            run.parts.autoencoder,
            run.recipe.data.resolution,
            progress=lambda done, total: progress.update(task, completed=done),
        )
        images = torch.cat([batch.images for batch in batches])
    return Samples(
        seeds=tuple(seeds),
        labels=tuple(labels),
        images=images,
        protocol=sampling_protocol(run, config, sampler.evaluations_per_image),
    )


def sampling_protocol(
    run: LoadedRun, config: SamplingConfig, evaluations_per_image: int
) -> dict[str, Any]:
    """All that decides what the images look like, besides seed and class."""
    return {
        **{f"sampling.{path}": value for path, value in protocol(config).items()},
        "sampling.evaluations_per_image": evaluations_per_image,
        "model.weights": run.weights,
        "model.images_seen": run.images_seen,
        "model.images_before": run.images_before,
        "model.recipe": fingerprint(run.recipe),
        "autoencoder": run.parts.autoencoder.fingerprint,
    }


def write(samples: Samples, class_names: Sequence[str], folder: Path) -> Path:
    """PNGs named by seed, grid.png and manifest.json; files of the same names are replaced."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for seed, label, image in zip(samples.seeds, samples.labels, samples.images, strict=True):
        name = f"seed-{seed:06d}-class-{label}.png"
        save_png(image, folder / name)
        rows.append({"file": name, "seed": seed, "label": label, "class": class_names[label]})
    save_png(grid(samples.images), folder / "grid.png")
    manifest = {
        "protocol": samples.protocol,
        "fingerprint": fingerprint(samples.protocol),
        "images": rows,
    }
    path = folder / "manifest.json"
    path.write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
    return path
