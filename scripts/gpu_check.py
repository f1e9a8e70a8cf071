# SPDX-License-Identifier: Apache-2.0
"""Check of a GPU: numbers against the CPU, then speed and memory, in ten minutes.

    python scripts/gpu_check.py --out gpu.json
    python scripts/gpu_check.py --only numbers bf16 --minutes 3
    python scripts/gpu_check.py --device cpu --size tiny

Sections run in the order of --help. A task that fails or runs out of memory is recorded with its
message, and the next one goes on. Tasks that no time is left for are named. --out is written after
every section. The exit code is 1 if a number is outside its tolerance or a task failed, and 0 if
tasks were only skipped for lack of time.
"""

import argparse
import dataclasses
import json
import math
import sys
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gpu import (
    agreement,
    baselines,
    drawing,
    environment,
    loading,
    optimizers,
    study,
    training,
)
from gpu.section import Context, Section, SectionResult, Settings, run_sections
from rich.console import Console
from rich.table import Table

from pippin.bench.record import Spread
from pippin.system.device import resolve_device
from pippin.system.files import write_json

SECTIONS = (
    Section(name="environment", share=0.02, tasks=environment.tasks),
    Section(name="numbers", share=0.12, tasks=agreement.cpu_tasks),
    Section(name="bf16", share=0.06, tasks=agreement.bf16_tasks),
    Section(name="training", share=0.4, tasks=training.tasks),
    Section(name="optimizer", share=0.03, tasks=optimizers.tasks),
    Section(name="loader", share=0.08, tasks=loading.tasks),
    Section(name="sampling", share=0.09, tasks=drawing.tasks),
    Section(name="plan", share=0.05, tasks=training.plan_tasks),
    Section(name="baselines", share=0.15, tasks=baselines.tasks),
    Section(name="study", share=0.1, tasks=study.tasks),
)
"""In order; the most important come first."""
FORMAT = 1
"""Version of the JSON file."""
LOG_WIDTH = 150
"""Columns of the tables in a file."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print and write."""
    options = _parser().parse_args(arguments)
    if options.out is not None and not options.out.parent.is_dir():
        print(f"--out: folder {options.out.parent} does not exist", file=sys.stderr)
        return 2
    try:
        settings = _settings(options)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    console = Console()
    if not console.is_terminal:  # a log file has no width
        console = Console(width=LOG_WIDTH)
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("once")
        context = Context(settings=settings, folder=Path(folder))

        def done(result: SectionResult) -> None:
            show(console, result)
            if options.out is not None:
                write_json(options.out, record(context))

        chosen = [s for s in SECTIONS if not settings.asked or s.name in settings.asked]
        run_sections(chosen, context, done)
    problems = [line for result in context.results for line in _problems(result)]
    for line in problems:
        console.print(line, markup=False, highlight=False)
    return 1 if problems else 0


def _parser() -> argparse.ArgumentParser:
    names = [section.name for section in SECTIONS]
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="auto", help="cuda, cpu or auto")
    parser.add_argument("--size", choices=("xl", "tiny"), help="default: xl on a GPU, else tiny")
    parser.add_argument("--minutes", type=_positive, default=10.0)
    parser.add_argument("--only", nargs="+", choices=names, default=[], metavar="SECTION")
    parser.add_argument("--out", type=Path, help="JSON file")
    parser.add_argument(
        "--compiled",
        action=argparse.BooleanOptionalAction,
        help="measure compiled blocks too; default: with xl",
    )
    parser.add_argument(
        "--study-folder",
        type=Path,
        default=Path("studies") / "control-gpu-hour",
        help="folder of the study, which a later call resumes",
    )
    parser.epilog = f"sections: {', '.join(names)}"
    return parser


def _positive(text: str) -> float:
    value = float(text)
    if not (value > 0 and math.isfinite(value)):
        raise argparse.ArgumentTypeError(f"must be above 0; got {text}")
    return value


def _settings(options: argparse.Namespace) -> Settings:
    device = resolve_device(options.device)
    size = options.size or ("xl" if device.type == "cuda" else "tiny")
    return Settings(
        device=device,
        size=size,
        minutes=options.minutes,
        compiled=size == "xl" if options.compiled is None else options.compiled,
        asked=frozenset(options.only),
        study_folder=options.study_folder,
    )


def show(console: Console, result: SectionResult) -> None:
    """Print the table of a section, its failures and what it skipped."""
    rule = f"{result.name}: {result.status}, {result.seconds:.1f} s"
    console.rule(rule, align="left")
    for kind in dict.fromkeys(type(row) for row in result.rows):
        rows = [_row_values(row) for row in result.rows if type(row) is kind]
        table = Table(*(name.replace("_", " ") for name in rows[0]))
        for values in rows:
            table.add_row(*(_cell(name, value) for name, value in values.items()))
        console.print(table)
    for failure in result.failures:
        console.print(f"{failure.task}: {failure.message}", markup=False, highlight=False)
    if result.skipped:
        console.print(f"no time for: {'; '.join(result.skipped)}", markup=False, highlight=False)
    if result.message:
        console.print(result.message, markup=False, highlight=False)


def _row_values(row: Any) -> dict[str, Any]:
    """Fields of a row, those of its base class last, and whether it is within its tolerance."""
    names = [field.name for field in dataclasses.fields(row)]
    own = [name for name in names if name in vars(type(row)).get("__annotations__", {})]
    values = {name: getattr(row, name) for name in dict.fromkeys([*own, *names])}
    return values | ({"within": row.within} if hasattr(row, "within") else {})


def _cell(name: str, value: Any) -> str:
    if isinstance(value, Spread):
        return f"{value.median:.3g} ({value.low:.3g} to {value.high:.3g})"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int) and name.endswith("memory"):
        return f"{value / 1e9:.3g} GB"
    if isinstance(value, int) and name == "parameters":
        return f"{value / 1e6:.3g} M"
    if isinstance(value, float):
        return f"{value:.3g}"
    return "" if value is None else str(value)


def record(context: Context) -> dict[str, Any]:
    """Content of the JSON file: settings, and the sections so far."""
    settings, results = context.settings, context.results
    return {
        "format": FORMAT,
        "device": str(settings.device),
        "size": settings.size,
        "minutes": settings.minutes,
        "compiled": settings.compiled,
        "sections": [_section_record(result) for result in results],
        "problems": [line for result in results for line in _problems(result)],
    }


def _section_record(result: SectionResult) -> dict[str, Any]:
    return {
        "name": result.name,
        "status": result.status,
        "seconds": result.seconds,
        "rows": [_row_record(row) for row in result.rows],
        "failures": [dataclasses.asdict(failure) for failure in result.failures],
        "skipped": list(result.skipped),
        "message": result.message,
    }


def _plain(value: Any) -> Any:
    """JSON value; a number that is not finite becomes its name."""
    if isinstance(value, Spread):
        return {name: _plain(part) for name, part in dataclasses.asdict(value).items()}
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value


def _problems(result: SectionResult) -> list[str]:
    """Lines on numbers outside their tolerance, and on failures other than for lack of time."""
    lines = [
        f"{result.name}: outside its tolerance: {json.dumps(_row_record(row))}"
        for row in result.outside
    ]
    failures = [failure for failure in result.failures if not failure.out_of_time]
    return lines + [f"{result.name}: failed: {f.task}: {f.message}" for f in failures]


def _row_record(row: Any) -> dict[str, Any]:
    return {name: _plain(value) for name, value in _row_values(row).items()}


if __name__ == "__main__":
    sys.exit(main())
