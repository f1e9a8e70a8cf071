# SPDX-License-Identifier: Apache-2.0
"""``pippin study list`` and ``pippin study run NAME [--scale S] [--folder F] [--seeds 0:5]``."""

from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from pippin.cli.parsing.options import parse, parse_seeds
from pippin.cli.parsing.verb_help import HELP
from pippin.plugins import load_plugins
from pippin.studies.executors import Executor, LocalExecutor
from pippin.studies.shipped.options import (
    FeatureChoice,
    MachineSettings,
    with_data_path,
    with_features,
    with_machine_settings,
)
from pippin.studies.shipped.scales import ScaleName
from pippin.studies.slurm import SlurmConfig, SlurmExecutor
from pippin.system.text import print_text

if TYPE_CHECKING:
    from pippin.studies.study import Study

ExecutorName = Literal["inline", "local", "slurm"]
USAGE = """usage: pippin study list
       pippin study run NAME [options]      pippin study run NAME --help shows them"""


@dataclass(frozen=True, kw_only=True)
class StudyCommand(MachineSettings):
    """Run the unfinished runs of a study, and write its report."""

    scale: ScaleName | None = None
    """demo (minutes on two cores), cpu (hours), gpu-hour (one H100 hour per run), paper; None =
    the study's smallest scale."""
    folder: Path | None = None
    """Study folder; default studies/NAME, or studies/NAME-SCALE with --scale."""
    seeds: Annotated[tuple[str, ...], tyro.conf.arg(metavar="SEED|FROM:TO ...")] = ()
    """Training seeds, such as 0 1 2 or 0:3 (3 excluded); default the study's own. Seeds can be
    added later."""
    data_path: str | None = None
    """Image folder, for a study that does not use the embedded images."""
    other_data_path: str | None = None
    """Image folder for pre-training, if it differs from that of the arms: ImageNet-22k for
    datasets, ImageNet-1k for class-to-text, at scale paper."""
    executor: ExecutorName = "inline"
    """inline: one run after the other; local: --jobs processes on this machine; slurm: one Slurm
    job per run (needs the extra ``cluster``)."""
    jobs: int = 2
    """Number of concurrent runs, for local and slurm."""
    dry_run: bool = False
    """Stop after the checks of all arms, and print their plans, disk space and folders."""
    ignore_plan: bool = False
    """Submit even if the disk does not suffice by the plan."""
    slurm: SlurmConfig = field(default_factory=SlurmConfig)
    features: FeatureChoice = field(default_factory=FeatureChoice)


def main(argv: list[str]) -> int:
    """Parse and run; exit code 1 if a run failed, 75 if stopped by a signal."""
    if argv == ["list"]:
        return _list()
    if len(argv) < 2 or argv[0] != "run" or argv[1] in HELP:
        print_text(USAGE)
        return 0 if set(argv) & set(HELP) else 2
    name, rest = argv[1], argv[2:]
    command = parse(StudyCommand, f"pippin study run {name}", rest, StudyCommand())
    folder_name = f"{name}-{command.scale}" if command.scale else name
    folder = command.folder or Path("studies") / folder_name
    executor = _executor(command, folder)
    return run(
        name,
        folder,
        _seeds(command.seeds),
        command.scale,
        command.data_path,
        executor,
        machine=command,
        other_data_path=command.other_data_path,
        features=command.features,
        dry_run=command.dry_run,
        ignore_plan=command.ignore_plan,
    )


def _seeds(texts: tuple[str, ...]) -> tuple[int, ...]:
    """Unique seeds in the given order, with a note for a single one, easily meant as a count."""
    seeds = tuple(dict.fromkeys(seed for text in texts for seed in parse_seeds(text)))
    if len(seeds) == 1:
        _say(f"one training seed ({seeds[0]}): no verdict; --seeds 0 1 2 3 4, or 0:5, for five")
    return seeds


def _executor(command: StudyCommand, folder: Path) -> Executor | None:
    if command.executor == "local":
        return LocalExecutor(command.jobs)
    if command.executor == "slurm":
        return SlurmExecutor(folder / "jobs", command.slurm, command.jobs)
    return None


def run(
    name: str,
    folder: Path,
    seeds: tuple[int, ...],
    scale: ScaleName | None = None,
    data_path: str | None = None,
    executor: Executor | None = None,
    *,
    machine: MachineSettings | None = None,
    other_data_path: str | None = None,
    features: FeatureChoice | None = None,
    dry_run: bool = False,
    ignore_plan: bool = False,
) -> int:
    """Run a shipped study in a folder and render its report; a dry run stops after the checks."""
    from pippin.cli.main import RESUMABLE
    from pippin.data.config import ImagesConfig
    from pippin.data.folder.image_table import has_table
    from pippin.data.folder.listing import list_images
    from pippin.reports.report import render_report
    from pippin.studies.execution import execute, pretrain
    from pippin.studies.runner import run_study
    from pippin.studies.shipped.table import get_study

    study = with_features(get_study(name, seeds, scale), features or FeatureChoice())
    study = with_machine_settings(
        with_data_path(study, data_path, other_data_path), machine or MachineSettings()
    )
    recipes = (study.base, *study.starts.values())
    folders = {
        recipe.data.path: recipe.data
        for recipe in recipes
        if isinstance(recipe.data, ImagesConfig)
    }
    for data in folders.values():  # an empty folder would fail in every run
        if not has_table(Path(data.path)):
            list_images(data).check_layout(data.path)
    job = executor.config if isinstance(executor, SlurmExecutor) else None
    if job is None:
        _print_notes(study)
    if job is not None or dry_run:
        from pippin.cli.study_start import StudyStart

        elsewhere = job is not None
        start = StudyStart(study, folder, elsewhere=elsewhere, ignore_plan=ignore_plan, job=job)
        start.check()
        if dry_run:
            return start.print_plan()
    summary = run_study(study, folder, execute, _report, pretrain, executor)
    print_text(f"report: {render_report(folder)}")
    if summary.interrupted:
        return RESUMABLE
    return 1 if "failed" in summary.statuses.values() else 0


def _print_notes(study: "Study") -> None:
    """Print the notes on all trainings once, not in every run."""
    from pippin.preflight.notes import DECLARED, training_notes

    recipes = (*study.starts.values(), *study.arms().values())
    with suppress(ValueError):  # a device that this machine lacks, as every run would say
        notes = [note for recipe in recipes for note in training_notes(recipe, remedy=DECLARED)]
        for note in dict.fromkeys(notes):
            _say(f"note: {note}")


def _list() -> int:
    from pippin.studies.shipped.table import STUDIES

    load_plugins()
    width = max(map(len, STUDIES))
    for name, shipped in STUDIES.items():
        print_text(f"{name:<{width}}  {shipped.description} ({', '.join(shipped.scales)})")
    return 0


def _say(text: str) -> None:
    print_text(text, error=True)


def _report(text: str) -> None:
    """Print a message of the study, with the time in a log file."""
    from rich.console import Console

    from pippin.system.progress import prints_lines, with_time

    print_text(with_time(text) if prints_lines(Console(stderr=True)) else text, error=True)
