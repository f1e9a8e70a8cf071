# SPDX-License-Identifier: Apache-2.0
"""The images of the README, drawn by shipped models from fixed prompts, labels and seeds::

    python scripts/readme_images.py docs/images

No image is selected by its look: every prompt has the seeds that `pippin sample` gives it, and
every label has seed 0. All other settings are those that the models come with.
"""

import sys
from dataclasses import replace
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor

from pippin import draw, load_run
from pippin.sampling.load import LoadedRun

PROMPTS = (
    "smiling cat",
    "blue book, openmoji",
    "green circle, twemoji",
    "red heart",
    "woman astronaut",
    "clock",
    "snowman",
    "school bus",
)
SEEDS = range(4 * len(PROMPTS))
"""Seed k has the prompt k modulo their number, as with `pippin sample --seeds 0:32`."""
MODELS = {
    "entangled": "pippin/openmoji-mmdit-entangled",
    "disentangled": "pippin/openmoji-mmdit-disentangled",
}
LABELS = ("food-drink", "animals-nature")
SIZES = (32, 48, 64, 96, 128, 192, 256)
CONTROL_SEED = 0


def main() -> int:
    """Draw both images into a folder."""
    if len(sys.argv) != 2:
        print(__doc__)
        return 2
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    draw_prompts(folder / "samples.png")
    draw_sizes(folder / "original-size.png")
    return 0


def draw_prompts(path: Path) -> None:
    """One block of four images for every prompt."""
    run = load_run("pippin/emoji-mmdit-text")
    prompts = [PROMPTS[seed % len(PROMPTS)] for seed in SEEDS]
    images = draw(run, prompts, SEEDS)
    figure = Figure(figsize=(10, 5.5), layout="constrained", dpi=100)
    FigureCanvasAgg(figure)
    columns = 4
    cells = figure.subplots(len(PROMPTS) // columns, columns)
    for index, prompt in enumerate(PROMPTS):
        cell = cells[divmod(index, columns)]
        _show(cell, _square(images[index :: len(PROMPTS)]))
        cell.set_xlabel(prompt, fontsize=11)
    figure.savefig(path)


def draw_sizes(path: Path) -> None:
    """One seed at every original size, the entangled model above the disentangled one."""
    rows = [(label, name) for label in LABELS for name in MODELS]
    figure = Figure(figsize=(10, 1.36 * len(rows) + 0.4), layout="constrained", dpi=100)
    FigureCanvasAgg(figure)
    cells = figure.subplots(len(rows), len(SIZES))
    runs = {name: load_run(model) for name, model in MODELS.items()}
    for row, (label, name) in enumerate(rows):
        for column, size in enumerate(SIZES):
            cell = cells[row][column]
            _show(cell, _at_size(runs[name], label, size))
            if row == 0:
                cell.set_title(f"{size} px", fontsize=10)
        cells[row][0].set_ylabel(f"{label}\n{name}", fontsize=9)
    figure.savefig(path)


def _at_size(run: LoadedRun, label: str, size: int) -> Tensor:
    sampling = run.recipe.sampling
    control = replace(sampling.control, original_size=(size, size))
    config = replace(sampling, control=control)
    return draw(run, [run.label_id(label)], [CONTROL_SEED], config=config)[0]


def _square(images: Tensor) -> Tensor:
    """Four images (4, 3, H, W) as one of twice the side, (3, 2H, 2W)."""
    _, channels, height, width = images.shape
    blocks = images.reshape(2, 2, channels, height, width)
    return blocks.permute(2, 0, 3, 1, 4).reshape(channels, 2 * height, 2 * width)


def _show(cell: Axes, image: Tensor) -> None:
    cell.imshow(image.permute(1, 2, 0).numpy(), interpolation="nearest")
    cell.set_xticks([])
    cell.set_yticks([])


if __name__ == "__main__":
    sys.exit(main())
