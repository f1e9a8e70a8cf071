# SPDX-License-Identifier: Apache-2.0
"""Page of samples of a text-to-image model of shapes, with captions and errors.

    pippin evaluate RUN --parts scene
    python scripts/shapes_samples.py RUN docs/images/shapes-samples.png

Shows the first images of each kind of caption, without selection. Captions of wrong samples are
red.
"""

import sys
from pathlib import Path
from textwrap import fill

import torch
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor
from torchvision.io import decode_image

from pippin.data.sources.shapes.shapes_source import ShapesSource
from pippin.evaluation.metrics.scene.reader import SceneReader
from pippin.evaluation.metrics.scene.samples import statement_of, vocabulary_of
from pippin.evaluation.metrics.scene.score import agreement
from pippin.sampling.load import load_run
from pippin.sampling.sample_folder import read_manifest

COLUMNS = 8
KINDS = ("short", "medium", "long")


def main() -> int:
    """Render the page of a run."""
    if len(sys.argv) != 3:
        print(__doc__)
        return 2
    folder, out = map(Path, sys.argv[1:])
    run = load_run(folder)
    source = run.components.held_out_source
    assert isinstance(source, ShapesSource), "a run of data.kind shapes"
    reader = SceneReader(vocabulary_of(run.recipe.data.resolution))
    figure = Figure(figsize=(1.25 * COLUMNS, 1.9 * len(KINDS)), layout="constrained", dpi=100)
    FigureCanvasAgg(figure)
    cells = figure.subplots(len(KINDS), COLUMNS)
    for row, kind in enumerate(KINDS):
        samples = folder / "evaluation" / "scene" / kind
        rows = sorted(read_manifest(samples).images, key=lambda image: image["seed"])[:COLUMNS]
        images = torch.stack([decode_image(str(samples / image["file"])) for image in rows])
        for column, reading in enumerate(reader.read([images])):
            correct = agreement(reading, statement_of(source.scene(column), kind))
            wrong = [name for name, right in correct.items() if not right and name != "all"]
            _draw(cells[row][column], images[column], source.captions(column)[kind], wrong)
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out)
    print(f"{out}: {run.images_seen} images seen")
    return 0


def _draw(axes: Axes, image: Tensor, caption: str, wrong: list[str]) -> None:
    """Show one sample above its caption."""
    axes.imshow(image.permute(1, 2, 0).numpy(), interpolation="nearest")
    axes.set_xticks([])
    axes.set_yticks([])
    text = fill(caption, 22) + (f"\nwrong: {', '.join(wrong)}" if wrong else "")
    axes.set_xlabel(text, fontsize=6, color="#b3261e" if wrong else "#1c1e21")


if __name__ == "__main__":
    sys.exit(main())
