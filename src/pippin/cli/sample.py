# SPDX-License-Identifier: Apache-2.0
"""``pippin sample RUN --labels ... --control.flip False --seeds 0:64``."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from pippin.cli.options import parse, parse_seeds
from pippin.sampling.config import SamplingConfig


@dataclass(frozen=True, kw_only=True)
class SampleCommand:
    """Draw images from a run: PNGs, a grid and a manifest with the protocol.

    Images that are there already are kept: the same command goes on after a stop, and other
    seeds or classes are added. Another protocol needs another folder.
    """

    sampling: Annotated[SamplingConfig, tyro.conf.arg(name="")]
    labels: tuple[str, ...] = ()
    """Classes by name or number, used in turn; none given = all classes in turn."""
    seeds: str = "0:64"
    """0:64 (64 left out), 7, or 1,5,9."""
    out: Path | None = None
    """Folder for the images; default RUN/samples, and samples/NAME for a shipped model."""


def main(argv: list[str]) -> int:
    """Parse, load, sample, write."""
    if not argv or argv[0] in ("-h", "--help"):
        print("usage: pippin sample RUN [options]      pippin sample RUN --help shows them")
        print("RUN: a run folder, an exported folder or the name of a shipped model")
        return 0 if argv else 2
    from pippin.run.trained import SHIPPED_PREFIX, trained_recipe

    source, rest = argv[0], argv[1:]
    recipe = trained_recipe(source)
    default = SampleCommand(sampling=recipe.sampling)
    command = parse(SampleCommand, "pippin sample RUN", rest, default)
    seeds = parse_seeds(command.seeds)

    from pippin.run.load import load_run
    from pippin.run.sample import draw_into
    from pippin.run.sample_folder import GRID

    run = load_run(source, command.sampling.weights)
    wanted = [run.label_id(label) for label in command.labels] or range(len(run.class_names))
    labels = [wanted[place % len(wanted)] for place in range(len(seeds))]
    out = command.out or (
        Path("samples") / source.removeprefix(SHIPPED_PREFIX)
        if source.startswith(SHIPPED_PREFIX)
        else Path(source) / "samples"
    )
    draw_into(run, labels, seeds, command.sampling, out)
    print(
        f"{len(seeds)} images in {out} ({run.weights} weights at {run.images_seen} images); "
        f"grid: {out / GRID}"
    )
    return 0
