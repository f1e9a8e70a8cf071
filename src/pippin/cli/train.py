# SPDX-License-Identifier: Apache-2.0
"""``pippin train RECIPE [--folder F] [--resume] [--a.b value ...]``."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import tyro

from pippin.cli.failures import retry_command
from pippin.cli.listing import recipe_list
from pippin.cli.parsing.common_options import RECIPE_OPTIONS
from pippin.cli.parsing.options import chosen_data, parse
from pippin.cli.parsing.text_encoder_option import TextEncoderOption, take_text_encoder
from pippin.cli.parsing.verb_help import HELP
from pippin.config import replace_at
from pippin.data.config import OpenMojiConfig
from pippin.distributed.ranks import is_rank0, restarting_launcher
from pippin.recipes.recipe import Recipe
from pippin.recipes.table import RECIPES, get_recipe, load_recipe
from pippin.recipes.text_encoders import with_text_encoder
from pippin.runs.folder import Resume, RunFolder
from pippin.system.output import progress_hidden
from pippin.system.text import print_text, redact

USAGE = """usage: pippin train RECIPE [options]      pippin train RECIPE --help lists its options
       pippin train --config FILE.yaml|RUN/config.json [options]

{recipes}"""


@dataclass(frozen=True, kw_only=True)
class TrainCommand(TextEncoderOption):
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
    argv = config_first(argv)
    if not argv or argv[0] in HELP:
        print_text(USAGE.format(recipes=recipe_list()))
        return 0 if argv else 2
    name, recipe, rest = find_recipe(argv)
    default = TrainCommand(recipe=recipe)
    command = parse(TrainCommand, f"pippin train {name}", rest, default, RECIPE_OPTIONS)
    if command.from_scratch:
        command = replace(command, recipe=replace_at(command.recipe, "init.from_scratch", True))
    folder = command.folder or Path("runs") / name.replace("/", "-")
    command = replace(command, resume=_resume_after_restart(rest, command.resume, folder))
    recipe = _with_recorded_settings(command.recipe, RunFolder(folder), command.resume)
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


def find_recipe(argv: list[str]) -> tuple[str, Recipe, list[str]]:
    """Name and recipe of ``RECIPE ...`` or ``--config PATH ...``, and the remaining arguments.

    ``--text-encoder`` is applied to the recipe.

    Raises:
        ValueError: no such recipe, file or encoder, or --data.path for a recipe on embedded
            images.
    """
    if argv[0] == "--config":
        if len(argv) < 2:
            raise ValueError("--config needs the path of a recipe: FILE.yaml or RUN/config.json")
        path = Path(argv[1])
        name, recipe, rest = _file_name(path), load_recipe(path), argv[2:]
    else:
        name, recipe, rest = argv[0], get_recipe(argv[0]), argv[1:]
    encoder, rest = take_text_encoder(rest)
    if encoder is not None:
        recipe = with_text_encoder(recipe, encoder)
    if type(chosen_data(rest)) not in (type(recipe.data), OpenMojiConfig):
        recipes = ", ".join(recipe for recipe in RECIPES if recipe.startswith("folder/"))
        raise ValueError(f"{name} uses embedded images; --data.path works with: {recipes}")
    return name, recipe, rest


def config_first(argv: list[str]) -> list[str]:
    """Arguments with ``--config FILE`` in front, where it stands after other options."""
    for position, word in enumerate(argv if argv[:1] and argv[0].startswith("-") else ()):
        if word == "--config":
            return [*argv[position : position + 2], *argv[:position], *argv[position + 2 :]]
        if word.startswith("--config="):
            path = word.removeprefix("--config=")
            return ["--config", path, *argv[:position], *argv[position + 1 :]]
    return argv


def _file_name(path: Path) -> str:
    """Name of the recipe of a file: the run of a config.json, otherwise the file's own name."""
    run = path.absolute().parent.name if path.name == RunFolder(path.parent).config.name else ""
    return run or path.stem


def _with_recorded_settings(recipe: Recipe, run: RunFolder, resume: Resume) -> Recipe:
    """Recipe of a resumed run whose record predates some settings: these get the values with which
    the run started."""
    for path, value in run.missing_settings(recipe).items() if run.resumes(resume) else ():
        recipe = replace_at(recipe, path, value)
        _say(
            f"note: {run.path} started before the setting {path} existed, and resumes with {value}"
        )
    return recipe


def recorded_locations(argv: list[str], recipe: Recipe) -> dict[str, str]:
    """Resolved locations of paths recorded by ``--config`` and not changed by options.

    Args:
        argv: arguments of the verb.
        recipe: recipe with all options applied.
    """
    if argv[0] != "--config":
        return {}
    from pippin.runs.folder import unchanged_paths
    from pippin.runs.inputs import read_inputs

    path = Path(argv[1])
    inputs = read_inputs(path.parent)
    return {} if inputs is None else unchanged_paths(recipe, load_recipe(path), inputs.places)


def located_recipe(argv: list[str], recipe: Recipe) -> Recipe:
    """Recipe with the paths recorded by ``--config`` resolved from here."""
    from pippin.runs.folder import locate

    return locate(recipe, recorded_locations(argv, recipe))


def recorded_classes(argv: list[str]) -> int | None:
    """Number of classes of the model of ``--config``, if recorded."""
    if argv[0] != "--config":
        return None
    from pippin.runs.inputs import read_inputs

    inputs = read_inputs(Path(argv[1]).parent)
    return None if inputs is None else len(inputs.data.class_names)


def _train(command: TrainCommand, folder: Path, places: dict[str, str], again: str) -> int:
    import torch

    from pippin.cli.main import RESUMABLE
    from pippin.cli.starts import Preflight, dry_run
    from pippin.distributed.world import refuse_unconnected_tasks
    from pippin.system.signals import TrainingDivergedError, TrainingStoppedError
    from pippin.training.train import train

    refuse_unconnected_tasks()
    preflight = Preflight(RunFolder(folder), command.resume, ignore_plan=command.ignore_plan)
    if command.dry_run:
        return dry_run(preflight, command.recipe, places)
    try:
        train(
            command.recipe,
            folder,
            resume=command.resume,
            allow_changed_data=command.allow_changed_data,
            places=places,
            before=preflight.check,
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
    except torch.OutOfMemoryError as error:
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
