# SPDX-License-Identifier: Apache-2.0
"""Commands that repeat a run or a study, to be typed in the folder of its page."""

import os
import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pippin.reports.report_source import Source

_STUDY_COMMANDS = (["pippin", "study", "run"], ["pippin", "demo"])
_SEED = re.compile(r"\d+(:\d+)?")


@dataclass(frozen=True, kw_only=True)
class Repetition:
    """How to repeat a run or a study."""

    setup: tuple[str, ...]
    """Commands that install pippin, for a clone of its repository."""
    commands: tuple[str, ...]
    note: str
    """Where to type the commands, and where they write."""


def repetition(source: Source, page: Path) -> Repetition:
    """Commands that work in the folder of a page, wherever that folder has been copied to.

    Args:
        source: a study or a run.
        page: file of the page; paths are relative to its folder.
    """
    folder = Path(os.path.relpath(source.folder.resolve(), page.absolute().parent.resolve()))
    again = os.path.normpath(folder / ".." / f"{source.folder.resolve().name}-again")
    if not source.is_study:
        return _of_run(source, folder, again)
    declared = source.declaration.reproduce
    setup = tuple(command for command in declared if command.startswith("pip install"))
    commands = tuple(
        _study_command(command, source, again) for command in declared if command not in setup
    )
    note = "The study declares no commands."
    if any(_is_study_command(_words(command)) for command in commands):
        note = (
            f"Type it in the folder of this page. It writes a study of its own to {again}; with "
            f"--folder {shlex.quote(str(folder))} it does the unfinished runs of this one."
        )
    elif commands:
        note = "As the study declares them."
    return Repetition(setup=setup, commands=commands, note=note)


def _of_run(source: Source, folder: Path, again: str) -> Repetition:
    config = shlex.quote(str(folder / "config.json"))
    commands = [f"pippin train --config {config} --folder {shlex.quote(again)}"]
    if source.results.rows:
        commands.append(f"pippin evaluate {shlex.quote(again)}")
    return Repetition(
        setup=(),
        commands=tuple(commands),
        note=(
            "Type it in the folder of this page. config.json holds the recipe with all options; "
            f"the new run is written to {again}."
        ),
    )


def _words(command: str) -> list[str]:
    """Words of a command; the whole text as one word if its quotes are unbalanced."""
    try:
        return shlex.split(command)
    except ValueError:
        return [command]


def _is_study_command(words: list[str]) -> bool:
    return any(words[: len(start)] == start for start in _STUDY_COMMANDS)


def _study_command(command: str, source: Source, again: str) -> str:
    """A declared command with folder, recorded paths and added seeds."""
    words = _words(command)
    if not _is_study_command(words):
        return command
    words = _without(words, "--folder")
    for option, value in _recorded_paths(source).items():
        if option in words[:-1] and value:
            words[words.index(option) + 1] = value
    declared = source.declaration
    if set(declared.seeds) != set(declared.first_seeds):
        words = [*_without(words, "--seeds"), "--seeds", *map(str, declared.seeds)]
    return shlex.join([*words, "--folder", again])


def _without(words: list[str], option: str) -> list[str]:
    """The words without an option and its values."""
    if option not in words:
        return words
    start = words.index(option)
    end = start + 1
    while end < len(words) and (
        _SEED.fullmatch(words[end]) if option == "--seeds" else end == start + 1
    ):
        end += 1
    return words[:start] + words[end:]


def _recorded_paths(source: Source) -> dict[str, str]:
    """Option -> path that the study recorded, for the placeholders of its command."""
    first = next(iter(source.declaration.settings().values()), {})
    starts = [dict(recipe.get("data", {})) for recipe in source.declaration.starts.values()]
    data = first.get("data.path")
    others = [entry.get("path") for entry in starts if entry.get("path") not in (None, data)]
    features = first.get("evaluation.features")
    return {
        "--data-path": _path(data),
        "--other-data-path": _path(others[0] if others else None),
        "--features.weights": _path(first.get(f"evaluation.{features}")),
    }


def _path(value: Any) -> str:
    return value if isinstance(value, str) else ""
