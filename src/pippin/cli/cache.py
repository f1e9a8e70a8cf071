# SPDX-License-Identifier: Apache-2.0
"""``pippin cache list`` and ``pippin cache clear [KEY ...] [--unused] [--yes]``."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from pippin.cli.parsing.options import parse
from pippin.cli.parsing.verb_help import HELP
from pippin.data.cache.cache_folders import (
    NEWER,
    CacheFolder,
    list_caches,
    remove_cache,
    users_of,
)
from pippin.system.formats import FormatError
from pippin.system.text import print_text

USAGE = """usage: pippin cache list [options]              sizes of the caches, and their use
       pippin cache clear [KEY ...] [options]   delete caches, after a question

A cache holds latents or caption features. Training with the same settings builds it again.
`pippin cache clear --help` lists the options."""


@dataclass(frozen=True, kw_only=True)
class ListCommand:
    """List the caches in a folder with their sizes, the largest first."""

    folder: Path = Path("caches")
    """Folder of all caches, as in --cache.folder."""
    runs: tuple[Path, ...] = (Path("runs"), Path("studies"))
    """Folders whose runs may use the caches."""


@dataclass(frozen=True, kw_only=True)
class ClearCommand(ListCommand):
    """Delete caches. One that is being built, or that a process of this machine reads, is kept,
    and the exit code is then 1."""

    keys: Annotated[tuple[str, ...], tyro.conf.Positional] = ()
    """Names of caches, as `pippin cache list` prints them; default all."""
    unused: bool = False
    """Only caches that no run below --runs was trained with."""
    yes: bool = False
    """Do not ask."""


def main(argv: list[str]) -> int:
    """Parse and run the verb."""
    if not argv or argv[0] in HELP:
        print_text(USAGE)
        return 0 if argv else 2
    verb, rest = argv[0], argv[1:]
    if verb == "list":
        return _list(parse(ListCommand, "pippin cache list", rest))
    if verb == "clear":
        return _clear(parse(ClearCommand, "pippin cache clear", rest))
    raise ValueError(f"unknown verb {verb!r} of pippin cache; choose list or clear")


def _list(command: ListCommand) -> int:
    caches = list_caches(command.folder)
    used = _used(caches, command.runs)
    for cache in caches:
        state = "used by a run" if cache in used else "unused"
        state = "kept" if cache.content == NEWER else state
        print_text(_line(cache, users_of(cache.path) or state))
    total = sum(cache.num_bytes for cache in caches)
    print_text(f"{len(caches)} caches in {command.folder}, {_megabytes(total)}")
    return 0


def _clear(command: ClearCommand) -> int:
    caches = _chosen(command)
    free = []
    for cache in caches:
        if user := users_of(cache.path):
            print_text(f"error: {cache.path} is kept: {user}; wait for it, or stop it", error=True)
        else:
            free.append(cache)
            print_text(_line(cache, ""))
    if not free:
        print_text("nothing to delete")
    elif command.yes or _confirmed(free):
        for cache in free:
            remove_cache(cache.path)
        total = sum(cache.num_bytes for cache in free)
        print_text(f"deleted: {len(free)} caches, {_megabytes(total)}")
    else:
        print_text("nothing was deleted")
    return 0 if len(free) == len(caches) else 1


def _chosen(command: ClearCommand) -> list[CacheFolder]:
    """Caches that the command names.

    Raises:
        ValueError: no cache of a given name.
    """
    caches = list_caches(command.folder)
    names = {cache.path.name for cache in caches}
    if unknown := [key for key in command.keys if key not in names]:
        raise ValueError(
            f"{command.folder} has no cache {', '.join(unknown)}; `pippin cache list` lists all"
        )
    if command.keys:
        caches = [cache for cache in caches if cache.path.name in command.keys]
    if command.unused:
        used = _used(caches, command.runs)
        caches = [cache for cache in caches if cache not in used]
    return caches


def _used(caches: Sequence[CacheFolder], folders: Sequence[Path]) -> list[CacheFolder]:
    """Caches that a run below the folders was trained with.

    A cache that cannot be told apart from that of a run counts as used, as do all caches where a
    run is of a newer version.
    """
    from pippin.runs.overview import find_runs, recorded_inputs

    runs = [run for folder in folders if folder.is_dir() for run in find_runs(folder)]
    try:
        records = [record for run in runs if (record := recorded_inputs(run))]
    except FormatError as error:
        print_text(f"{error}; until then all caches count as used", error=True)
        return list(caches)
    return [
        cache
        for cache in caches
        if cache.content == NEWER or any(_fits(cache, record) for record in records)
    ]


def _fits(cache: CacheFolder, record: dict[str, object]) -> bool:
    """Whether a run with these recorded inputs may have used a cache."""
    if cache.is_text:
        return record["text_encoder"] is not None
    if not cache.is_features and cache.ingredients.get("autoencoder") != record["autoencoder"]:
        return False
    if record["bucketed"] or cache.ingredients.get("split") != "train":
        return True  # recorded hashes are those of all training images
    return cache.ingredients.get("source") == record["source"]


def _confirmed(caches: Sequence[CacheFolder]) -> bool:
    """Ask on a terminal.

    Raises:
        ValueError: nobody can answer.
    """
    if not sys.stdin.isatty():
        raise ValueError("nobody can answer the question before deletion; add --yes to delete")
    total = _megabytes(sum(cache.num_bytes for cache in caches))
    return input(f"delete {len(caches)} caches, {total}? [y/N] ").strip().lower() in ("y", "yes")


def _line(cache: CacheFolder, state: str) -> str:
    return f"{cache.path.name:<22} {_megabytes(cache.num_bytes):>12}  {cache.content}  {state}"


def _megabytes(count: int) -> str:
    return f"{count / 1e6:,.1f} MB"
