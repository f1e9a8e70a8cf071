# SPDX-License-Identifier: Apache-2.0
"""``pippin completion bash|zsh|fish``: print a completion script for a shell."""

from collections.abc import Iterator
from functools import cache

from pippin.cli.completion_scripts import SCRIPTS, Words
from pippin.cli.imports import OPTION
from pippin.cli.main import VERBS
from pippin.cli.option_table import option_table
from pippin.cli.verb_help import HELP, SHARED_FLAGS
from pippin.config import suggest_names
from pippin.system.terminal import print_text

USAGE = """usage: pippin completion bash|zsh|fish

Save the script where the shell looks for it; it works in new shells:
  pippin completion bash > ~/.local/share/bash-completion/completions/pippin
  pippin completion zsh > ~/.zfunc/_pippin      with fpath+=(~/.zfunc) before compinit in ~/.zshrc
  pippin completion fish > ~/.config/fish/completions/pippin.fish

For one bash session: source <(pippin completion bash)"""
RECIPE_VERBS = ("train", "show", "plan", "bench")
"""Verbs whose first argument is a recipe."""
SUBVERBS = {
    "data": ("import", "check", "recaption", "prepare"),
    "study": ("list", "run"),
    "autoencoder": ("train", "measure"),
    "cache": ("list", "clear"),
    "completion": tuple(SCRIPTS),
}


def main(argv: list[str]) -> int:
    """Print the script of a shell.

    Raises:
        ValueError: unknown shell.
    """
    if not argv or argv[0] in HELP:
        print_text(USAGE)
        return 0 if argv else 2
    shell, *rest = argv
    if shell not in SCRIPTS or rest:
        near = suggest_names(shell, SCRIPTS)
        raise ValueError(f"unknown shell {' '.join(argv)!r}{near}; choose bash, zsh or fish")
    print_text(SCRIPTS[shell](completion_words()))
    return 0


def completion_words() -> Words:
    """Words that complete each position of a command line."""
    from pippin.recipes.table import RECIPES
    from pippin.studies.table import STUDIES

    recipes = tuple(RECIPES)
    return Words(
        verbs=dict(VERBS),
        second=dict.fromkeys(RECIPE_VERBS, recipes) | SUBVERBS,
        third={"data prepare": recipes, "study run": tuple(STUDIES)},
        options={verb: tuple(sorted(set(verb_options(verb)))) for verb in VERBS},
    )


def verb_options(verb: str) -> Iterator[str]:
    """Names of a verb's options with ``--``; those of all recipes where it takes one."""
    yield from ("--help", "--help-all", *SHARED_FLAGS, OPTION)
    if verb in RECIPE_VERBS or verb == "data":
        yield from ("--config", *_recipe_options())
    for kind, default in _commands(verb):
        for option in option_table(kind, default).values():
            if not option.positional:
                yield f"--{option.name}"


@cache
def _recipe_options() -> frozenset[str]:
    from pippin.recipes.recipe import Recipe
    from pippin.recipes.table import RECIPES

    names: set[str] = set()
    for build in RECIPES.values():
        names |= option_table(Recipe, build()).keys()
    return frozenset(f"--{name}" for name in names)


def _commands(verb: str) -> Iterator[tuple[type, object]]:
    """Classes of a verb's commands, and an instance where a setting has several classes."""
    from importlib import import_module

    from pippin.cli.evaluate import EvaluateFolderCommand
    from pippin.data.config import ImagesConfig
    from pippin.recipes.table import RECIPES

    first = next(iter(RECIPES.values()))()
    module = import_module(f"pippin.cli.{verb}")
    for name, kind in vars(module).items():
        if not name.endswith("Command") or kind.__module__ != module.__name__:
            continue
        default = None
        if "recipe" in kind.__dataclass_fields__:
            default = kind(recipe=first)
        elif kind is EvaluateFolderCommand:
            default = kind(data=ImagesConfig())
        yield kind, default
    if verb == "data":
        from pippin.cli.recaption import RecaptionCommand

        yield RecaptionCommand, None
