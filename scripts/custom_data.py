# SPDX-License-Identifier: Apache-2.0
"""Time all commands from a custom data set of 300 images to a report.

    python scripts/custom_data.py --folder DIR

The images are emoji on coloured backgrounds, PNG, JPEG and WebP, of many sizes, in five class
folders. Prints a markdown table of wall-clock seconds; the exit code is 1 if a command fails.
"""

import argparse
import random
import subprocess
import sys
import time
from pathlib import Path

from PIL import Image

from pippin.data.config import OpenMojiConfig
from pippin.data.sources.openmoji import OpenMojiSource
from pippin.data.sources.rasterise import rasterise

CLASSES = ("animals-nature", "flags", "food-drink", "objects", "smileys-emotion")
COMMANDS = (
    "data check photos",
    "autoencoder train --data.path photos --train.images 8000 --out runs/autoencoder",
    "data prepare folder/mmdit-disentangled --data.path photos"
    " --autoencoder.source runs/autoencoder",
    "train folder/mmdit-disentangled --data.path photos --autoencoder.source runs/autoencoder"
    " --train.images 6400 --train.batch-size 64 --sampling.solver dpm++ --sampling.steps 16"
    " --evaluation.num-samples 200 --folder runs/first",
    "sample runs/first --labels flags food-drink --control.original-size 200 200 --seeds 0:16",
    "evaluate runs/first",
    "report runs/first",
    "evaluate runs/first/samples --data.path photos",
)


def write_images(folder: Path, count: int) -> None:
    """Write emoji of five groups on plain backgrounds, of many sizes and file types."""
    source = OpenMojiSource(OpenMojiConfig(), "train")
    by_class: dict[str, list[str]] = {name: [] for name in CLASSES}
    for index in range(len(source)):
        name = source.class_names[source.label(index)]
        if name in by_class:
            by_class[name].append(source.key(index))
    draw = random.Random(0)
    for number in range(count):
        name = CLASSES[number % len(CLASSES)]
        side = draw.randint(60, 500)
        emoji = Image.fromarray(
            rasterise(draw.choice(by_class[name]), side).permute(1, 2, 0).numpy()
        )
        background = Image.new(
            "RGB",
            (int(side * draw.uniform(1, 1.5)), side),
            tuple(draw.randint(90, 255) for _ in range(3)),
        )
        lines = emoji.convert("L").point(lambda level: 255 * (level < 250))
        background.paste(emoji, ((background.width - side) // 2, 0), lines)
        path = folder / name / f"{number:03}.{draw.choice(['png', 'jpg', 'webp'])}"
        path.parent.mkdir(parents=True, exist_ok=True)
        background.save(path)


def main() -> int:
    """Create the images, run and time the commands."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, required=True, help="new")
    folder = parser.parse_args().folder.resolve()
    write_images(folder / "photos", 300)
    print("| command | seconds |\n| --- | --- |")
    for number, command in enumerate(COMMANDS):
        start = time.monotonic()
        done = subprocess.run(
            [sys.executable, "-m", "pippin.cli.main", *command.split()],
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
        )
        seconds = time.monotonic() - start
        (folder / f"{number}.txt").write_text(done.stdout + done.stderr)
        print(f"| `pippin {command}` | {seconds:.0f} |", flush=True)
        if done.returncode:
            print(done.stdout + done.stderr, file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
