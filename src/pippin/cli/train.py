# SPDX-License-Identifier: Apache-2.0
"""``pippin train RECIPE [--folder F] [--resume] [--a.b value ...]``."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import tyro

from pippin.cli.failures import retry_command
from pippin.cli.parsing.captioner_option import CaptionerOption, with_captions_of
from pippin.cli.parsing.text_encoder_option import TextEncoderOption
from pippin.cli.recipe_argument import parse_verb, recorded_locations
from pippin.config import replace_at
from pippin.distributed.ranks import is_rank0, restarting_launcher
from pippin.recipes.recipe import Recipe
from pippin.runs.folder import Resume, RunFolder
from pippin.system.main_memory import is_out_of_memory
from pippin.system.output import progress_hidden
from pippin.system.redaction import redact
from pippin.system.text import print_text

USAGE = """usage: pippin train RECIPE [options]      pippin train RECIPE --help lists its options
       pippin train --config FILE.yaml|RUN/config.json [options]

{recipes}"""


@dataclass(frozen=True, kw_only=True)
class TrainCommand(CaptionerOption, TextEncoderOption):
    """Train a recipe; all its settings are options."""

    recipe: Annotated[Recipe, tyro.conf.arg(name="")]
    folder: Path | None = None
    """Run folder; default runs/RECIPE, with / replaced by -."""
    resume: Resume = False
    """Resume from the newest intact checkpoint of the folder; auto: resume if the folder holds a
    run, otherwise start, so that one command line serves for both. Without this option it is auto
    under torchrun --max-restarts and in requeued Slurm jobs."""
    from_scratch: bool = False
    """Train a fine-tuning recipe from random weights instead."""
    allow_changed_data: bool = False
    """Resume even if images or captions have changed; the run's record, log and measures note the
    change."""
    dry_run: bool = False
    """Stop after the checks, and print the resolved plan: steps, memory, hours, disk, folders."""
    ignore_plan: bool = False
    """Start even if memory or disk do not suffice by the plan."""


def main(argv: list[str]) -> int:
    """Parse and train."""
    parsed = parse_verb(TrainCommand, "train", USAGE, argv)
    if isinstance(parsed, int):
        return parsed
    command, argv = parsed.command, parsed.arguments
    if command.from_scratch:
        command = replace(command, recipe=replace_at(command.recipe, "init.from_scratch", True))
    folder = command.folder or Path("runs") / parsed.name.replace("/", "-")
    resume = _resume_after_restart(parsed.options, command.resume, folder)
    command = replace(command, resume=resume)
    recipe = with_captions_of(command.recipe, command.captioner, parsed.options)
    recipe = _with_recorded_settings(recipe, RunFolder(folder), command.resume)
    command, again = replace(command, recipe=recipe), redact(retry_command("train", argv))
    return _train(command, folder, recorded_locations(argv, recipe), again)


def _resume_after_restart(words: list[str], resume: Resume, folder: Path) -> Resume:
    """The resume option; auto where a launcher repeats the command, unless options state it.

    The launcher repeats the command as it was first typed, so only its environment tells that the
    run may have been interrupted.
    """
    stated = any(word.partition("=")[0] in ("--resume", "--no-resume") for word in words)
    launcher = None if stated else restarting_launcher()
    if launcher is None:
        return resume
    if RunFolder(folder).resumes("auto"):
        _say(f"note: {launcher} restarts this command, and {folder} holds a run: resuming it")
    return "auto"


def _with_recorded_settings(recipe: Recipe, run: RunFolder, resume: Resume) -> Recipe:
    """Recipe of a resumed run whose record predates some settings: these get the values with which
    the run started."""
    for path, value in run.missing_settings(recipe).items() if run.resumes(resume) else ():
        recipe = replace_at(recipe, path, value)
        _say(
            f"note: {run.path} started before the setting {path} existed, and resumes with {value}"
        )
    return recipe


def _train(command: TrainCommand, folder: Path, places: dict[str, str], again: str) -> int:
    from pippin.cli.main import RESUMABLE
    from pippin.cli.starts import Preflight, dry_run
    from pippin.distributed.world import refuse_unconnected_tasks
    from pippin.system.signals import TrainingDivergedError, TrainingStoppedError
    from pippin.training.train import train

    refuse_unconnected_tasks()
    preflight = Preflight(
        RunFolder(folder),
        command.resume,
        ignore_plan=command.ignore_plan,
        captioner=command.captioner,
    )
    if command.dry_run:
        return dry_run(preflight, command.recipe, places)
    try:
        train(
            command.recipe,
            folder,
            resume=command.resume,
            allow_changed_data=command.allow_changed_data,
            places=places,
            before=preflight.begin,
        )
    except TrainingStoppedError as stopped:
        _say(f"{stopped}; resume with: {again}")
        return RESUMABLE
    except KeyboardInterrupt:
        if not RunFolder(folder).has_checkpoints:
            raise  # before the first checkpoint
        _say(f"stopped; resume from the last checkpoint with: {again}")
        return RESUMABLE
    except TrainingDivergedError as error:
        _say(f"error: {error}")
        return 1
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        advice = preflight.memory_advice(error, command.recipe, places, again)
        print_text(f"error: {advice}", error=True)  # on any rank: the others do not know it
        return 1
    if is_rank0():
        for line in preflight.met_lines():
            if not progress_hidden():
                print_text(line)
        print_text(f"trained: {folder}; next: pippin sample {folder} or pippin evaluate {folder}")
    return 0


def _say(text: str) -> None:
    """Print on rank 0 only."""
    if is_rank0():
        print_text(text, error=True)
