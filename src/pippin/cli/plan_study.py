# SPDX-License-Identifier: Apache-2.0
"""``pippin plan --study NAME``: costs of every run of a study."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain
from typing import TYPE_CHECKING, Annotated

import tyro

from pippin.cli.parsing.options import parse
from pippin.planning.devices import Cluster
from pippin.recipes.recipe import Recipe
from pippin.studies.shipped.options import MachineSettings, with_machine_settings
from pippin.studies.shipped.scales import ScaleName
from pippin.system.text import plain_text, print_text

if TYPE_CHECKING:
    from pippin.planning.plan import Plan

HEADS = (
    *("run", "from", "px", "parameters, M", "GFLOPs per image", "images, M", "micro-batch"),
    *("GB", "GB, again", "largest micro-batch", "again", "device-hours", "again"),
)
"""*again*: with gradient checkpointing of every block."""


@dataclass(frozen=True, kw_only=True)
class PlanStudyCommand(MachineSettings):
    """Plan every run of a study and its pre-training, without reading data or weights."""

    scale: ScaleName | None = None
    """None = the study's smallest scale."""
    cluster: Annotated[Cluster, tyro.conf.arg(name="")] = field(
        default_factory=lambda: Cluster(devices=1)
    )
    markdown: bool = False
    """Print the table in Markdown."""


def plan_study(argv: list[str]) -> int:
    """Parse, plan and print.

    Raises:
        ValueError: no study name given.
    """
    from pippin.studies.shipped.table import get_study

    if not argv or argv[0].startswith("-"):
        raise ValueError("--study needs the name of a study; `pippin study list` lists all")
    command = parse(
        PlanStudyCommand, f"pippin plan --study {argv[0]}", argv[1:], PlanStudyCommand()
    )
    study = with_machine_settings(get_study(argv[0], scale=command.scale), command)
    starts = {f"@{name}": recipe for name, recipe in study.starts.items()}
    rows = plan_rows(starts | study.arms(), command.cluster, len(study.seeds))
    if command.markdown:
        for cells in chain((HEADS, ("---",) * len(HEADS)), rows):  # printed one by one
            print_text(f"| {' | '.join(cells)} |")
    else:
        print_rows(rows)
    return 0


def plan_rows(
    recipes: dict[str, Recipe], cluster: Cluster, seeds: int
) -> Iterator[tuple[str, ...]]:
    """Rows of all runs, and a total of the device-hours over all seeds.

    Runs that differ only in sampling and evaluation share one training: all but the first refer to
    the first, which alone counts.
    """
    from pippin.planning.plan import plan
    from pippin.studies.execution import first_with_same_training

    stored, recomputed = 0.0, 0.0
    first = first_with_same_training(recipes)
    for name, recipe in recipes.items():
        if first[name] != name:
            yield (name, f"training of {first[name]}", *[""] * (len(HEADS) - 2))
            continue
        planned = plan(recipe, cluster)
        yield _row(name, recipe, planned)
        stored += planned.placements[0].device_hours
        recomputed += planned.placements[1].device_hours
    seeds_text = "one seed" if seeds == 1 else f"{seeds} seeds"
    cells = [""] * (len(HEADS) - 3)
    yield (
        f"all, {seeds_text}",
        *cells,
        *(f"{seeds * hours:,.4g}" for hours in (stored, recomputed)),
    )


def _row(name: str, recipe: Recipe, planned: "Plan") -> tuple[str, ...]:
    stored, recomputed = planned.placements[:2]
    return (
        name,
        recipe.init.run or "",
        str(recipe.data.resolution),
        f"{planned.parameters / 1e6:.0f}",
        f"{planned.training_flops / 1e9:.4g}",
        f"{recipe.train.images / 1e6:.4g}",
        str(planned.micro_batch),
        f"{stored.memory / 1e9:.3g}",
        f"{recomputed.memory / 1e9:.3g}",
        str(stored.largest_micro_batch),
        str(recomputed.largest_micro_batch),
        f"{stored.device_hours:.3g}",
        f"{recomputed.device_hours:.3g}",
    )


def print_rows(rows: Iterable[tuple[str, ...]]) -> None:
    """Print the rows of :func:`plan_rows` as a table."""
    from rich.table import Table

    from pippin.cli.tables import print_table

    table = Table(*HEADS)
    for cells in rows:
        table.add_row(*map(plain_text, cells))
    print_table(table)
