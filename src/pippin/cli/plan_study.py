# SPDX-License-Identifier: Apache-2.0
"""``pippin plan --study NAME [--scale S] [--train.micro-batch-size 64]``: each run's cost."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain
from typing import TYPE_CHECKING, Annotated

import tyro

from pippin.cli.options import parse
from pippin.recipes.recipe import Recipe
from pippin.run.devices import Cluster
from pippin.studies.options import Machine, on_machine
from pippin.studies.scales import ScaleName
from pippin.system.terminal import plain, say

if TYPE_CHECKING:
    from pippin.run.plan import Plan

HEADS = (
    *("run", "from", "px", "parameters, M", "GFLOPs an image", "images, M", "micro-batch"),
    *("GB", "GB, again", "largest micro-batch", "again", "device-hours", "again"),
)
"""*again*: with activations computed again in every block (gradient checkpointing)."""


@dataclass(frozen=True, kw_only=True)
class PlanStudyCommand(Machine):
    """Plan every run of a study, and what these start from; no data and no weights are read."""

    scale: ScaleName | None = None
    """None = the smallest that the study has."""
    cluster: Annotated[Cluster, tyro.conf.arg(name="")] = field(
        default_factory=lambda: Cluster(devices=1)
    )
    markdown: bool = False
    """Print a table in Markdown."""


def plan_study(argv: list[str]) -> int:
    """Parse, plan and print.

    Raises:
        ValueError: no name of a study.
    """
    from pippin.studies.table import get_study

    if not argv or argv[0].startswith("-"):
        raise ValueError("--study needs the name of a study; `pippin study list` lists all")
    command = parse(
        PlanStudyCommand, f"pippin plan --study {argv[0]}", argv[1:], PlanStudyCommand()
    )
    study = on_machine(get_study(argv[0], scale=command.scale), command)
    starts = {f"@{name}": one for name, one in study.starts.items()}
    rows = plan_rows(starts | study.arms(), command.cluster, len(study.seeds))
    if command.markdown:
        for cells in chain((HEADS, ("---",) * len(HEADS)), rows):  # as they come
            say(f"| {' | '.join(cells)} |")
    else:
        _print(rows)
    return 0


def plan_rows(
    recipes: dict[str, Recipe], cluster: Cluster, seeds: int
) -> Iterator[tuple[str, ...]]:
    """A row for each run, and one of the device-hours of all trainings of all seeds.

    Runs that differ in sampling and evaluation alone are trained once: the rows of all but the
    first name that one, and only the first counts.
    """
    from pippin.run.execute import first_trained_alike
    from pippin.run.plan import plan

    kept, again = 0.0, 0.0
    first = first_trained_alike(recipes)
    for name, recipe in recipes.items():
        if first[name] != name:
            yield (name, f"training of {first[name]}", *[""] * (len(HEADS) - 2))
            continue
        planned = plan(recipe, cluster)
        yield _row(name, recipe, planned)
        kept += planned.placements[0].device_hours
        again += planned.placements[1].device_hours
    said = "one seed" if seeds == 1 else f"{seeds} seeds"
    cells = [""] * (len(HEADS) - 3)
    yield (f"all, {said}", *cells, *(f"{seeds * one:,.4g}" for one in (kept, again)))


def _row(name: str, recipe: Recipe, planned: "Plan") -> tuple[str, ...]:
    kept, again = planned.placements[:2]
    return (
        name,
        recipe.init.run or "",
        str(recipe.data.resolution),
        f"{planned.parameters / 1e6:.0f}",
        f"{planned.training_flops / 1e9:.4g}",
        f"{recipe.train.images / 1e6:.4g}",
        str(planned.micro_batch),
        f"{kept.memory / 1e9:.3g}",
        f"{again.memory / 1e9:.3g}",
        str(kept.largest_micro_batch),
        str(again.largest_micro_batch),
        f"{kept.device_hours:.3g}",
        f"{again.device_hours:.3g}",
    )


def _print(rows: Iterable[tuple[str, ...]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(*HEADS)
    for cells in rows:
        table.add_row(*map(plain, cells))
    Console().print(table)
