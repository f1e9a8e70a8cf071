# SPDX-License-Identifier: Apache-2.0
"""Image of a study's samples, a row for each arm.

    python scripts/samples_by_arm.py studies/latents-cpu docs/images/latents-samples.png

Shows the first samples of the first training seed, without selection.
"""

import sys
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from pippin.sampling.sample_folder import read_manifest
from pippin.studies.declaration import Declaration

COLUMNS = 10


def main() -> int:
    """Render the image of a study."""
    if len(sys.argv) != 3:
        print(__doc__)
        return 2
    folder, out = map(Path, sys.argv[1:])
    declared = Declaration.load(folder / "study.json")
    figure = Figure(figsize=(COLUMNS, len(declared.arms)), layout="constrained", dpi=100)
    FigureCanvasAgg(figure)
    cells = figure.subplots(len(declared.arms), COLUMNS, squeeze=False)
    for row, arm in zip(cells, declared.arms, strict=True):
        samples = folder / "runs" / f"{arm}-seed{declared.seeds[0]}" / "evaluation" / "samples"
        images = sorted(read_manifest(samples).images, key=lambda image: image["seed"])
        if len(images) < COLUMNS:
            raise SystemExit(f"{samples} has {len(images)} samples; {COLUMNS} are shown")
        row[0].set_ylabel(arm.replace("-", "\n"), rotation=0, ha="right", va="center")
        for axes, image in zip(row, images[:COLUMNS], strict=True):
            _draw(axes, samples / image["file"])
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out)
    return 0


def _draw(axes: Axes, file: Path) -> None:
    with Image.open(file) as image:
        axes.imshow(image, interpolation="nearest")
    axes.set_xticks([])
    axes.set_yticks([])


if __name__ == "__main__":
    sys.exit(main())
