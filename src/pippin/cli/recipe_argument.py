# SPDX-License-Identifier: Apache-2.0
"""The recipe argument of a verb: ``RECIPE`` or ``--config FILE``, and options that change it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from pippin.cli.listing import recipe_list
from pippin.cli.parsing.common_options import RECIPE_OPTIONS
from pippin.cli.parsing.options import chosen_data, parse
from pippin.cli.parsing.text_encoder_option import take_text_encoder
from pippin.cli.parsing.verb_help import HELP
from pippin.data.config import OpenMojiConfig
from pippin.recipes.recipe import Recipe
from pippin.recipes.table import RECIPES, get_recipe, load_recipe
from pippin.recipes.text_encoders import with_text_encoder
from pippin.runs.folder import RunFolder
from pippin.system.text import print_text

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class ParsedVerb(Generic[T]):
    """A verb's words, parsed."""

    name: str
    """Name of the recipe."""
    command: T
    arguments: list[str]
    """All words, with ``--config FILE`` in front."""
    options: list[str]
    """Words after the recipe."""


def parse_verb(
    kind: type[T], verb: str, usage: str, arguments: Sequence[str]
) -> ParsedVerb[T] | int:
    """Find the recipe of a verb, and parse the options after it; without arguments and for help,
    print the usage and return the exit code.

    Args:
        kind: class of the command, whose field ``recipe`` is the recipe; all its other fields have
            defaults.
        verb: verb in the usage line, such as ``train``.
        usage: the usage; ``{recipes}`` becomes the list of recipes.
        arguments: words after the verb.

    Raises:
        SystemExit: the help of all options was printed, or the arguments are wrong.
        ValueError: see :func:`find_recipe`.
    """
    words = config_first(list(arguments))
    if not words or words[0] in HELP:
        print_text(usage.format(recipes=recipe_list()))
        return 0 if words else 2
    name, recipe, options = find_recipe(words)
    build: Any = kind
    command = parse(kind, f"pippin {verb} {name}", options, build(recipe=recipe), RECIPE_OPTIONS)
    return ParsedVerb(name=name, command=command, arguments=words, options=options)


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
