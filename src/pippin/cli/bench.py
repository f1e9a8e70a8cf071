# SPDX-License-Identifier: Apache-2.0
"""``pippin bench RECIPE``, ``--compare OLD NEW``, ``--against diffusers`` and ``--scaling``."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from pippin.bench.config import AgainstConfig, BenchConfig
from pippin.bench.record import BenchRecord, Spread
from pippin.cli.parsing.options import parse
from pippin.cli.parsing.text_encoder_option import TextEncoderOption
from pippin.cli.recipe_argument import located_recipe, parse_verb
from pippin.recipes.recipe import Recipe
from pippin.system.text import print_above_progress, print_text

if TYPE_CHECKING:
    from rich.table import Table

USAGE = """usage: pippin bench RECIPE [options]                speed of training; --help: options
       pippin bench --config FILE.yaml|RUN/config.json [options]
       pippin bench --compare OLD.json NEW.json     ratios of two records
       pippin bench --against diffusers [options]   comparison with diffusers, equal weights
       pippin bench --scaling [options]             curves of time and memory, and their page

{recipes}"""


@dataclass(frozen=True, kw_only=True)
class BenchCommand(TextEncoderOption):
    """Measure the training throughput of a recipe; all its settings are options."""

    recipe: Annotated[Recipe, tyro.conf.arg(name="")]
    bench: BenchConfig = field(default_factory=BenchConfig)
    out: Path | None = None
    """File for the record as JSON, for --compare."""


def main(argv: list[str]) -> int:
    """Parse, measure and print."""
    if argv[:1] == ["--compare"]:
        return _compare(argv[1:])
    if argv[:1] == ["--against"]:
        return _against(argv[1:])
    if argv[:1] == ["--scaling"]:
        from pippin.cli.bench_scaling import scaling_main

        return scaling_main(argv[1:])
    parsed = parse_verb(BenchCommand, "bench", USAGE, argv)
    if isinstance(parsed, int):
        return parsed
    command = parsed.command
    recipe = located_recipe(parsed.arguments, command.recipe)
    if command.out is not None and not command.out.parent.is_dir():  # check before the measurement
        raise ValueError(f"--out: folder {command.out.parent} does not exist")

    from rich.console import Console

    from pippin.bench.measure import bench

    record = bench(recipe, parsed.name, command.bench, Console(stderr=True))
    _print_record(record)
    if command.out is not None:
        record.save(command.out)
        print_text(f"record: {command.out}")
    return 0


def _print_record(record: BenchRecord) -> None:
    from rich.console import Console
    from rich.table import Table

    from pippin.cli.tables import print_table

    console = Console()
    speeds = Table(
        "mode", "images/s", "ms per step", "of matmul peak", "peak GFLOP/s", "memory MiB"
    )
    for mode in record.modes:
        speeds.add_row(
            mode.name,
            _spread(mode.images_per_second),
            f"{1e3 * mode.step_seconds.median:.4g}",
            f"{mode.peak_share.median:.0%}",
            f"{mode.matmul_peak.median / 1e9:.4g}",
            f"{mode.peak_memory / 2**20:.0f}",
        )
    print_table(speeds)
    print_table(_parts_table(record))
    machine = ", ".join(f"{name} {value}" for name, value in record.machine.items())
    print_above_progress(
        console,
        f"loader alone: {_spread(record.loader)} images/s\n"
        f"{record.step_flops / 1e9:.4g} GFLOPs per image, forward and backward\n{machine}",
    )


def _parts_table(record: BenchRecord) -> "Table":
    from rich.table import Table

    names = list(record.modes[0].parts)
    table = Table("mode", *names, "sum", title="ms of each part of a step")
    for mode in record.modes:
        medians = [mode.parts[name].median for name in names]
        table.add_row(mode.name, *(f"{1e3 * seconds:.3g}" for seconds in (*medians, sum(medians))))
    return table


def _spread(figure: Spread) -> str:
    return f"{figure.median:.4g} ({figure.low:.4g} to {figure.high:.4g})"


def _compare(paths: list[str]) -> int:
    from rich.console import Console
    from rich.table import Table

    from pippin.bench.record import compare
    from pippin.cli.tables import print_table

    if len(paths) != 2:
        raise ValueError(f"--compare needs two records, OLD.json NEW.json; got {paths}")
    old, new = (BenchRecord.load(Path(path)) for path in paths)
    comparison = compare(old, new)
    table = Table("images/s", "old", "new", "new / old", "ranges over windows")
    for ratio in comparison.ratios:
        ranges = "disjoint" if ratio.clear else "overlap"
        table.add_row(
            ratio.what, _spread(ratio.old), _spread(ratio.new), f"{ratio.value:.3f}", ranges
        )
    print_table(table)
    console = Console()
    for line in comparison.notes:
        print_above_progress(console, line)
    return 0


def _against(argv: list[str]) -> int:
    if not argv or argv[0] != "diffusers":
        raise ValueError(f"--against supports diffusers only; got {argv[:1]}")
    config = parse(AgainstConfig, "pippin bench --against diffusers", argv[1:], AgainstConfig())

    from rich.console import Console

    from pippin.bench.against import against_diffusers

    print_text("pippin / diffusers, images/s: median (minimum to maximum over rounds)")
    for comparison in against_diffusers(config, Console(stderr=True)):
        mode = f"{comparison.precision} {'compiled' if comparison.compiled else 'eager'}"
        passes = "forward + backward" if comparison.backward else "forward"
        print_text(
            f"{mode:13} {passes:18}  {comparison.pippin.median:8.4g} / "
            f"{comparison.diffusers.median:<8.4g} ratio {_spread(comparison.ratio)}, pippin "
            f"{comparison.peak_share.median:.0%} of matmul peak"
        )
    return 0
