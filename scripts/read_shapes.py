# SPDX-License-Identifier: Apache-2.0
"""Accuracy of the scene reader, and a sheet of scenes, for docs/reference/shapes.md.

python scripts/read_shapes.py [--scenes 500] [--sheet docs/shapes.png]
"""

import argparse
from collections import Counter
from pathlib import Path

import torch

from pippin.data.config import ShapesConfig
from pippin.data.sources.shapes.shapes_source import ShapesSource
from pippin.data.views.views import clean_view
from pippin.encoders.autoencoder import Autoencoder
from pippin.encoders.config import AutoencoderConfig
from pippin.encoders.normalisation import to_pixels
from pippin.evaluation.metrics.scene.reader import Reading, SceneReader
from pippin.evaluation.metrics.scene.samples import statement_of, vocabulary_of
from pippin.evaluation.metrics.scene.score import ATTRIBUTES, agreement
from pippin.images.files import image_grid, save_png
from pippin.types import Images

SIDES = (32, 64, 128)
BATCH = 32


def accuracies(source: ShapesSource, readings: list[Reading]) -> list[float]:
    """Accuracy of every attribute stated by medium and long captions, and of whole captions."""
    right, stated = Counter(), Counter()
    for index, reading in enumerate(readings):
        for kind in ("medium", "long"):
            found = agreement(reading, statement_of(source.scene(index), kind))
            stated.update(found.keys())
            right.update(name for name, holds in found.items() if holds)
    return [right[name] / stated[name] for name in (*ATTRIBUTES, "all")]


def autoencoded(autoencoder: Autoencoder, images: Images) -> Images:
    """Encode and decode images."""
    parts = []
    for part in images.split(BATCH):
        mean = autoencoder.encode(to_pixels(part)).mean
        parts.append(autoencoder.decode(autoencoder.normalise(mean)))
    return torch.cat(parts)


def print_errors(count: int) -> None:
    """Print a table of accuracies on clean and autoencoded images."""
    autoencoder = Autoencoder.load(AutoencoderConfig(source="pippin/shapes-f4"), device="cpu")
    print("| images |", " | ".join((*ATTRIBUTES, "all")), "|")
    print("| --- |", " | ".join(["---"] * (len(ATTRIBUTES) + 1)), "|")
    for side in SIDES:
        source = ShapesSource(ShapesConfig(resolution=side, held_out_images=count), "held-out")
        images = torch.stack([clean_view(source, index).image for index in range(count)])
        reader = SceneReader(vocabulary_of(side))
        for kind in ("clean", "autoencoded"):
            inputs = images if kind == "clean" else autoencoded(autoencoder, images)
            shares = accuracies(source, reader.read([inputs]))
            print(f"| {kind}, {side} px |", " | ".join(f"{100 * x:.1f}" for x in shares), "|")


def main() -> None:
    """Print the table, or save the sheet."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scenes", type=int, default=500)
    parser.add_argument("--sheet", type=Path)
    args = parser.parse_args()
    if args.sheet is None:
        print_errors(args.scenes)
        return
    source = ShapesSource(ShapesConfig(), "train")
    images = torch.stack([clean_view(source, index).image for index in range(36)])
    save_png(image_grid(images, columns=12), args.sheet)


if __name__ == "__main__":
    main()
