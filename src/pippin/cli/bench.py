# SPDX-License-Identifier: Apache-2.0
"""``pippin bench RECIPE``, ``--compare OLD.json NEW.json`` and ``--against diffusers``."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from pippin.bench.config import AgainstConfig, BenchConfig
from pippin.bench.record import BenchRecord, Spread
from pippin.cli.listing import recipe_list
from pippin.cli.options import parse
from pippin.recipes.recipe import Recipe
from pippin.recipes.table import get_recipe
from pippin.system.terminal import note, say

if TYPE_CHECKING:
    from rich.table import Table

USAGE = """usage: pippin bench RECIPE [options]                speed of training; --help: options
       pippin bench --compare OLD.json NEW.json     ratios of two records
       pippin bench --against diffusers [options]   ours beside theirs, equal weights

{recipes}"""


@dataclass(frozen=True, kw_only=True)
class BenchCommand:
    """Measure how fast a recipe trains; every setting of it is an option."""

    recipe: Annotated[Recipe, tyro.conf.arg(name="")]
    bench: BenchConfig = field(default_factory=BenchConfig)
    out: Path | None = None
    """Write the record as JSON, for --compare."""


def main(argv: list[str]) -> int:
    """Parse, measure and print."""
    if not argv or argv[0] in ("-h", "--help"):
        say(USAGE.format(recipes=recipe_list()))
        return 0 if argv else 2
    if argv[0] == "--compare":
        return _compare(argv[1:])
    if argv[0] == "--against":
        return _against(argv[1:])
    default = BenchCommand(recipe=get_recipe(argv[0]))
    command = parse(BenchCommand, f"pippin bench {argv[0]}", argv[1:], default)
    if command.out is not None and not command.out.parent.is_dir():  # before minutes are spent
        raise ValueError(f"--out: there is no folder {command.out.parent}")

    from rich.console import Console

    from pippin.bench.measure import bench

    record = bench(command.recipe, argv[0], command.bench, Console(stderr=True))
    _print_record(record)
    if command.out is not None:
        record.save(command.out)
        say(f"record: {command.out}")
    return 0


def _print_record(record: BenchRecord) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console()
    speeds = Table("mode", "images/s", "ms a step", "of matmul peak", "peak GFLOP/s", "memory MiB")
    for mode in record.modes:
        speeds.add_row(
            mode.name,
            _spread(mode.images_per_second),
            f"{1e3 * mode.step_seconds.median:.4g}",
            f"{mode.peak_share.median:.0%}",
            f"{mode.matmul_peak.median / 1e9:.4g}",
            f"{mode.peak_memory / 2**20:.0f}",
        )
    console.print(speeds)
    console.print(_parts_table(record))
    machine = ", ".join(f"{name} {value}" for name, value in record.machine.items())
    note(
        console,
        f"loader alone: {_spread(record.loader)} images/s\n"
        f"{record.step_flops / 1e9:.4g} GFLOPs an image, forward and backward\n{machine}",
    )


def _parts_table(record: BenchRecord) -> "Table":
    from rich.table import Table

    names = list(record.modes[0].parts)
    table = Table("mode", *names, "sum", title="ms of a step's parts")
    for mode in record.modes:
        medians = [mode.parts[name].median for name in names]
        table.add_row(mode.name, *(f"{1e3 * one:.3g}" for one in (*medians, sum(medians))))
    return table


def _spread(figure: Spread) -> str:
    return f"{figure.median:.4g} ({figure.low:.4g} to {figure.high:.4g})"


def _compare(paths: list[str]) -> int:
    from rich.console import Console
    from rich.table import Table

    from pippin.bench.compare import compare

    if len(paths) != 2:
        raise ValueError(f"--compare needs two records, OLD.json NEW.json; got {paths}")
    old, new = (BenchRecord.load(Path(path)) for path in paths)
    found = compare(old, new)
    table = Table("images/s", "old", "new", "new / old", "ranges over windows")
    for ratio in found.ratios:
        apart = "apart" if ratio.clear else "overlap"
        table.add_row(
            ratio.what, _spread(ratio.old), _spread(ratio.new), f"{ratio.value:.3f}", apart
        )
    console = Console()
    console.print(table)
    for line in found.notes:
        note(console, line)
    return 0


def _against(argv: list[str]) -> int:
    if not argv or argv[0] != "diffusers":
        raise ValueError(f"--against knows diffusers only; got {argv[:1]}")
    config = parse(AgainstConfig, "pippin bench --against diffusers", argv[1:], AgainstConfig())

    from rich.console import Console

    from pippin.bench.against import against_diffusers

    say("ours / diffusers, images/s: median (smallest to largest over rounds)")
    for duel in against_diffusers(config, Console(stderr=True)):
        mode = f"{duel.precision} {'compiled' if duel.compiled else 'eager'}"
        passes = "forward + backward" if duel.backward else "forward"
        say(
            f"{mode:13} {passes:18}  {duel.ours.median:8.4g} / {duel.theirs.median:<8.4g} "
            f"ratio {_spread(duel.ratio)}, ours {duel.peak_share.median:.0%} of matmul peak"
        )
    return 0
