# SPDX-License-Identifier: Apache-2.0
"""``pippin average RUN --sigma-rel 0.12``: reconstruct an EMA of another width."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from pippin.cli.parsing.options import parse
from pippin.distributed.ranks import is_rank0
from pippin.system.text import print_text

NOTED_ERROR = 0.1
"""Relative error of a profile from which on a note recommends more snapshots."""


@dataclass(frozen=True, kw_only=True)
class AverageCommand:
    """Reconstruct averages of any relative width (Karras et al. 2024) from the snapshots of a run
    that was trained with --train.snapshot-every, as weights for `pippin sample RUN --weights NAME`
    and `pippin evaluate RUN --sampling.weights NAME`."""

    run: Annotated[Path, tyro.conf.Positional]
    """A run folder."""
    sigma_rel: tuple[float, ...]
    """One or more widths: standard deviation of the profile as a share of the images seen, above 0
    and at most 0.2887, the plain mean of all weights."""
    checkpoint: int | None = None
    """Images seen of the checkpoint where the averages end; default the newest intact one."""


def main(argv: list[str]) -> int:
    """Parse, reconstruct, write."""
    command = parse(AverageCommand, "pippin average", argv)
    if not is_rank0():
        return 0
    if not command.sigma_rel:
        raise ValueError("--sigma-rel needs one or more widths, such as --sigma-rel 0.12")

    from pippin.training.averaging.reconstruction import average_run

    for width in command.sigma_rel:
        average = average_run(command.run, width, command.checkpoint)
        for problem in average.skipped:
            print_text(f"skipped: {problem}", error=True)
        if average.path.is_dir():
            print_text(f"{average.name}: already stored in {average.path}")
            continue
        print_text(
            f"{average.name}: {average.path}, at {average.images_seen} images, from "
            f"{average.sources} stored averages; relative error of its profile "
            f"{average.relative_error:.2g}"
        )
        if average.relative_error > NOTED_ERROR:
            print_text(
                "note: these weights differ from the average of this width; a smaller "
                "train.snapshot_every, or train.snapshot_widths around it, bring them closer"
            )
    name = average.name
    print_text(
        f"next: pippin sample {command.run} --weights {name}, or pippin evaluate {command.run} "
        f"--sampling.weights {name}"
    )
    return 0
