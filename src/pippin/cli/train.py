# SPDX-License-Identifier: Apache-2.0
"""``pippin train RECIPE [--folder F] [--resume True] [--a.b value ...]``."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import tyro

from pippin.cli.listing import recipe_list
from pippin.cli.options import chosen_data, parse
from pippin.config import replace_at
from pippin.data.config import OpenMojiConfig
from pippin.recipes.recipe import Recipe
from pippin.recipes.table import RECIPES, get_recipe
from pippin.run.folder import Resume, RunFolder
from pippin.system.ranks import first_process
from pippin.system.terminal import say

USAGE = """usage: pippin train RECIPE [options]      pippin train RECIPE --help shows all settings
       pippin train --config RUN/config.json [options]

{recipes}"""


@dataclass(frozen=True, kw_only=True)
class TrainCommand:
    """Train a recipe; every setting of it is an option."""

    recipe: Annotated[Recipe, tyro.conf.arg(name="")]
    folder: Path | None = None
    """Run folder; default runs/RECIPE with / written as -."""
    resume: Resume = False
    """Go on from the newest good checkpoint of the folder; auto: where it holds a run, else begin,
    so that one line can be given again and again."""
    from_scratch: bool = False
    """Train a recipe that is defined as fine-tuning from initial weights all the same."""
    allow_changed_data: bool = False
    """Resume also where images or captions are not those that the run was trained on; its record,
    log and measures say so from then on."""


def main(argv: list[str]) -> int:
    """Parse and train."""
    if not argv or argv[0] in ("-h", "--help"):
        say(USAGE.format(recipes=recipe_list()))
        return 0 if argv else 2
    name, recipe, rest = find_recipe(argv)
    command = parse(TrainCommand, f"pippin train {name}", rest, TrainCommand(recipe=recipe))
    if command.from_scratch:
        command = replace(command, recipe=replace_at(command.recipe, "init.from_scratch", True))
    folder = command.folder or Path("runs") / name.replace("/", "-")
    recipe = _as_begun(command.recipe, RunFolder(folder), command.resume)
    return _train(replace(command, recipe=recipe), folder, recorded_places(argv, recipe))


def find_recipe(argv: list[str]) -> tuple[str, Recipe, list[str]]:
    """Name and recipe of ``RECIPE ...`` or ``--config PATH ...``, and the arguments after it.

    Raises:
        ValueError: no such recipe or file, or --data.path for one without own pictures.
    """
    if argv[0] == "--config":
        if len(argv) < 2:
            raise ValueError("--config needs the path of a config.json")
        name, recipe, rest = Path(argv[1]).parent.name, Recipe.load(Path(argv[1])), argv[2:]
    else:
        name, recipe, rest = argv[0], get_recipe(argv[0]), argv[1:]
    if type(chosen_data(rest)) not in (type(recipe.data), OpenMojiConfig):
        own = ", ".join(one for one in RECIPES if one.startswith("folder/"))
        raise ValueError(f"{name} is on embedded pictures; --data.path goes with: {own}")
    return name, recipe, rest


def _as_begun(recipe: Recipe, run: RunFolder, resume: Resume) -> Recipe:
    """The recipe, where a run goes on whose record is older than some settings: with what was done
    when it began."""
    for path, value in run.begun_with(recipe).items() if run.goes_on(resume) else ():
        recipe = replace_at(recipe, path, value)
        _say(f"note: {run.path} was begun before {path} was a setting, and goes on with {value}")
    return recipe


def recorded_places(argv: list[str], recipe: Recipe) -> dict[str, str]:
    """Where paths led that ``--config`` recorded and that no option changed.

    Args:
        argv: of the verb.
        recipe: as it is with all options.
    """
    if argv[0] != "--config":
        return {}
    from pippin.run.inputs import read_inputs
    from pippin.run.places import given_again

    path = Path(argv[1])
    inputs = read_inputs(path.parent)
    return {} if inputs is None else given_again(recipe, Recipe.load(path), inputs.places)


def located_recipe(argv: list[str], recipe: Recipe) -> Recipe:
    """The recipe with paths that ``--config`` recorded as they lead from here."""
    from pippin.run.places import locate

    return locate(recipe, recorded_places(argv, recipe))


def recorded_classes(argv: list[str]) -> int | None:
    """How many classes the model of ``--config`` was trained on, where that is recorded."""
    if argv[0] != "--config":
        return None
    from pippin.run.inputs import read_inputs

    inputs = read_inputs(Path(argv[1]).parent)
    return None if inputs is None else len(inputs.data.class_names)


def _train(command: TrainCommand, folder: Path, places: dict[str, str]) -> int:
    from pippin.cli.main import RESUMABLE
    from pippin.run.train import train
    from pippin.training.trainer import TrainingDivergedError, TrainingStoppedError
    from pippin.training.world import refuse_lone_tasks

    refuse_lone_tasks()
    try:
        train(
            command.recipe,
            folder,
            resume=command.resume,
            allow_changed_data=command.allow_changed_data,
            places=places,
        )
    except TrainingStoppedError as stopped:
        _say(f"{stopped}; go on with --resume True --folder {folder}")
        return RESUMABLE
    except KeyboardInterrupt:
        if not RunFolder(folder).begun:
            raise  # before the first checkpoint
        _say(f"stopped; go on from the last checkpoint with --resume True --folder {folder}")
        return RESUMABLE
    except TrainingDivergedError as error:
        _say(f"error: {error}")
        return 1
    if first_process():
        say(f"trained: {folder}; next: pippin sample {folder} or pippin evaluate {folder}")
    return 0


def _say(text: str) -> None:
    """Of what happens to all processes at once, the first one speaks."""
    if first_process():
        say(text, error=True)
