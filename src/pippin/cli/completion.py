# SPDX-License-Identifier: Apache-2.0
"""``pippin completion bash|zsh|fish``: print a completion script for a shell."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import get_args

from pippin.cli.imports import OPTION
from pippin.cli.main import VERBS
from pippin.cli.parsing.option_table import option_table
from pippin.cli.parsing.verb_help import HELP, SHARED_FLAGS
from pippin.config import suggest_names
from pippin.system.text import print_text

Table = Mapping[str, Sequence[str]]


@dataclass(frozen=True, kw_only=True)
class Words:
    """Words that complete a command line."""

    verbs: Mapping[str, str]
    """Verb -> its description."""
    second: Table
    """Verb -> words that may follow it."""
    third: Table
    """Verb and second word -> words that may follow them."""
    options: Table
    """Verb -> its options, for a word that starts with a dash."""


def bash_script(words: Words) -> str:
    """Script for bash; files complete where no word does."""
    return f"""# bash completion of pippin
_pippin() {{
    local word="${{COMP_WORDS[COMP_CWORD]}}" words=""
    if (( COMP_CWORD == 1 )); then
        words="{" ".join(words.verbs)} --help --version"
    elif [[ "$word" == -* ]]; then
        case "${{COMP_WORDS[1]}}" in
{_cases(words.options, "words=", '"')}
        esac
    elif (( COMP_CWORD == 2 )); then
        case "${{COMP_WORDS[1]}}" in
{_cases(words.second, "words=", '"')}
        esac
    elif (( COMP_CWORD == 3 )); then
        case "${{COMP_WORDS[1]}} ${{COMP_WORDS[2]}}" in
{_cases(words.third, "words=", '"')}
        esac
    fi
    COMPREPLY=($(compgen -W "$words" -- "$word"))
}}
complete -o default -F _pippin pippin"""


def zsh_script(words: Words) -> str:
    """Script for zsh, to be evaluated or saved as ``_pippin``."""
    return f"""#compdef pippin
_pippin() {{
    local -a candidates
    if (( CURRENT == 2 )); then
        candidates=({" ".join(words.verbs)} --help --version)
    elif [[ "$words[CURRENT]" == -* ]]; then
        case "$words[2]" in
{_cases(words.options, "candidates=", "()")}
        esac
    elif (( CURRENT == 3 )); then
        case "$words[2]" in
{_cases(words.second, "candidates=", "()")}
        esac
    elif (( CURRENT == 4 )); then
        case "$words[2] $words[3]" in
{_cases(words.third, "candidates=", "()")}
        esac
    fi
    if (( $#candidates )); then
        compadd -- $candidates
    else
        _files
    fi
}}
if [[ "$funcstack[1]" == _pippin ]]; then
    _pippin "$@"
else
    compdef _pippin pippin
fi"""


def fish_script(words: Words) -> str:
    """Script for fish."""
    lines = [
        "# fish completion of pippin",
        "function __pippin_option",
        "    string match -q -- '-*' (commandline -ct); or return 1",
        "    set -l given (commandline -opc)[2..-1]",
        "    set -l length (count $argv)",
        '    test (count $given) -ge $length; and test "$given[1..$length]" = "$argv"',
        "end",
        "function __pippin_ends",
        "    set -l given (commandline -opc)[2..-1]",
        '    test "$given" = "$argv"',
        "end",
    ]
    lines += [
        f'complete -c pippin -f -n "__pippin_ends" -a {verb} -d "{text}"'
        for verb, text in words.verbs.items()
    ]
    lines.append('complete -c pippin -f -n "__pippin_ends" -a "--help --version"')
    following = {**words.second, **words.third}
    for before, table in ("__pippin_ends", following), ("__pippin_option", words.options):
        lines += [
            f'complete -c pippin -n "{before} {start}" -a "{" ".join(names)}"'
            for start, names in table.items()
        ]
    return "\n".join(lines)


def _cases(table: Table, assign: str, quotes: str) -> str:
    """Branches of a ``case``; starts with equal words share one."""
    starts: dict[tuple[str, ...], list[str]] = {}
    for start, names in table.items():
        starts.setdefault(tuple(names), []).append(f'"{start}"')
    opening, closing = quotes[0], quotes[-1]
    return "\n".join(
        f"            {'|'.join(start)}) {assign}{opening}{' '.join(names)}{closing} ;;"
        for names, start in starts.items()
    )


SCRIPTS: dict[str, Callable[[Words], str]] = {
    "bash": bash_script,
    "zsh": zsh_script,
    "fish": fish_script,
}
"""Shell -> function that writes its script."""


USAGE = """usage: pippin completion bash|zsh|fish

Save the script where the shell looks for it; it works in new shells:
  pippin completion bash > ~/.local/share/bash-completion/completions/pippin
  pippin completion zsh > ~/.zfunc/_pippin      with fpath+=(~/.zfunc) before compinit in ~/.zshrc
  pippin completion fish > ~/.config/fish/completions/pippin.fish

For one bash session: source <(pippin completion bash)"""
RECIPE_VERBS = ("train", "show", "fetch", "plan", "bench")
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
    from pippin.studies.shipped.table import STUDIES

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
    """Classes of a verb's commands, with an instance for each class of a setting that has several,
    as ``--data.path`` and ``--data.kind`` choose among those of images."""
    from importlib import import_module

    from pippin.data.config import DataConfig
    from pippin.recipes.table import RECIPES

    first = next(iter(RECIPES.values()))()
    module = import_module(f"pippin.cli.{verb}")
    for name, kind in vars(module).items():
        if not name.endswith("Command") or kind.__module__ != module.__name__:
            continue
        fields = kind.__dataclass_fields__
        if "recipe" in fields:
            yield kind, kind(recipe=first)
        elif "data" in fields and fields["data"].type == DataConfig:
            for images in get_args(DataConfig):
                yield kind, kind(data=images())
        else:
            yield kind, None
    if verb == "data":
        from pippin.cli.data_check import CheckCommand
        from pippin.cli.recaption import RecaptionCommand

        yield CheckCommand, None
        yield RecaptionCommand, None
