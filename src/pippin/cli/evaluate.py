# SPDX-License-Identifier: Apache-2.0
"""``pippin evaluate RUN`` and ``pippin evaluate FOLDER``."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from pippin.cli.options import chosen_data, parse
from pippin.data.config import DataConfig, OpenMojiConfig
from pippin.evaluation.config import EvaluationConfig
from pippin.sampling.config import SamplingConfig

if TYPE_CHECKING:
    from pippin.evaluation.measure import Measure


@dataclass(frozen=True, kw_only=True)
class EvaluateRunCommand:
    """Measure a run: held-out loss, sample quality, control drift and effect."""

    evaluation: Annotated[EvaluationConfig, tyro.conf.arg(name="")]
    sampling: SamplingConfig


@dataclass(frozen=True, kw_only=True)
class EvaluateFolderCommand:
    """Measure a folder of images against the clean training pictures of a data set."""

    evaluation: Annotated[EvaluationConfig, tyro.conf.arg(name="")] = field(
        default_factory=EvaluationConfig
    )
    data: DataConfig = field(default_factory=OpenMojiConfig)
    """The reference: OpenMoji, or with --data.path FOLDER your own pictures. data.resolution is
    the side of its pictures before features are taken."""
    device: str = "auto"


def main(argv: list[str]) -> int:
    """Parse, measure, print, and for a run write its results.jsonl."""
    if not argv or argv[0] in ("-h", "--help"):
        print("usage: pippin evaluate RUN_OR_FOLDER [options]\n       add --help to see them")
        return 0 if argv else 2
    folder, rest = Path(argv[0]), argv[1:]
    if not folder.is_dir():
        raise ValueError(f"{folder} is no folder; give a run folder or a folder of images")
    is_run = (folder / "config.json").exists()
    measures = _run(folder, rest) if is_run else _folder(folder, rest)
    _print_table(measures)
    return 0


def _run(folder: Path, arguments: list[str]) -> "list[Measure]":
    from pippin.run.folder import RunFolder

    recipe = RunFolder(folder).recipe()
    default = EvaluateRunCommand(evaluation=recipe.evaluation, sampling=recipe.sampling)
    command = parse(EvaluateRunCommand, "pippin evaluate RUN", arguments, default)

    from pippin.run.evaluate import evaluate_run, run_protocol, write_results
    from pippin.run.load import load_run

    recipe = replace(recipe, evaluation=command.evaluation, sampling=command.sampling)
    run = load_run(folder, recipe.sampling.weights, recipe=recipe)
    measures = evaluate_run(run, folder)
    write_results(measures, run_protocol(run), folder / "results.jsonl")
    return measures


def _folder(folder: Path, arguments: list[str]) -> "list[Measure]":
    default = EvaluateFolderCommand(data=chosen_data(arguments))
    command = parse(EvaluateFolderCommand, "pippin evaluate FOLDER", arguments, default)

    from pippin.run.evaluate import evaluate_folder
    from pippin.training.device import resolve_device

    device = resolve_device(command.device)
    return evaluate_folder(folder, command.data, command.evaluation, device)


def _print_table(measures: "list[Measure]") -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("measure", "of", "value", "95 % interval", "N", "better")
    for one in measures:
        interval = (
            "" if one.low is None else f"{one.low:.4g} to {one.high:.4g} ({one.interval_over})"
        )
        table.add_row(one.name, one.subject, f"{one.value:.4g}", interval, str(one.n), one.better)
    Console().print(table)
