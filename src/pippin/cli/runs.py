# SPDX-License-Identifier: Apache-2.0
"""``pippin runs [FOLDER]``: list run folders with recipe, progress, state and loss."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from pippin.cli.parsing.options import parse
from pippin.system.text import plain_text, print_text

if TYPE_CHECKING:
    from pippin.runs.overview import RunOverview


@dataclass(frozen=True, kw_only=True)
class RunsCommand:
    """List the runs below a folder: nearest recipe with the number of changed settings, images of
    the newest checkpoint, state and last training loss. Weights are not verified."""

    folder: Annotated[Path, tyro.conf.Positional] = Path("runs")
    """Folder of runs, a study, or one run."""


def main(argv: list[str]) -> int:
    """Parse and list.

    Raises:
        ValueError: no such folder.
    """
    command = parse(RunsCommand, "pippin runs", argv)
    if not command.folder.is_dir():
        raise ValueError(
            f"{command.folder} is no folder; give the folder of your runs: pippin runs FOLDER"
        )
    from pippin.runs.overview import find_runs, overview

    runs = [overview(folder) for folder in find_runs(command.folder)]
    if not runs:
        print_text(f"no runs in {command.folder}; `pippin train RECIPE` starts one")
        return 0
    _print(runs, command.folder)
    for run in runs:
        if run.problem:
            print_text(f"note: {run.folder}: {run.problem}", error=True)
    return 0


def _print(runs: "list[RunOverview]", top: Path) -> None:
    from rich.table import Column, Table

    from pippin.cli.tables import print_table

    right = {"images", "training loss"}
    columns = ("run", "recipe + changed settings", "images", "state", "training loss")
    table = Table(
        *(
            Column(name, no_wrap=True, justify="right" if name in right else "left")
            for name in columns
        )
    )
    for run in runs:
        name = run.folder.relative_to(top) if run.folder != top else run.folder
        total = "?" if run.images is None else f"{run.images:,}"
        loss = "" if run.loss is None else f"{run.loss:.4g}"
        cells = (name, run.recipe, f"{run.images_seen:,} of {total}", run.state, loss)
        table.add_row(*map(plain_text, cells))
    print_table(table)
