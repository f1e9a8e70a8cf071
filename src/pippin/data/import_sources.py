# SPDX-License-Identifier: Apache-2.0
"""Where imported images come from: files here or by URL, and data sets of the hub, in shards."""

import glob
import os
import re
from collections import Counter
from pathlib import Path

from pippin.config import ConfigError
from pippin.data.braces import expand_braces
from pippin.data.import_config import ImportConfig
from pippin.data.import_hub import HubShard, find_hub_shards
from pippin.data.import_shard_files import FileShard
from pippin.data.import_urls import READ, ask_urls, format_of, stem_of
from pippin.data.metadata import UNREAD
from pippin.image_folder import SYSTEM_NAMES
from pippin.system.secrets import is_url, without_secrets

Shard = FileShard | HubShard
HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?", re.ASCII)


def find_shards(config: ImportConfig) -> list[Shard]:
    """All shards of a source, as far as ``shards`` allows.

    Raises:
        ConfigError: no such source, a file of it that is not there, or a package that is missing.
    """
    source = config.source
    shown = without_secrets(source)
    here = os.path.exists(source)  # where Path.exists fails for long ones
    places = [source] if here else expand_braces(source)
    if source.startswith("pipe:"):
        raise ConfigError(f"{shown}: commands are not run; give the URL that this one reads")
    if any(is_url(place) for place in places):
        if others := [place for place in places if not is_url(place)]:
            raise ConfigError(
                f"{shown} joins URLs and paths such as {others[0]}: import them into folders of "
                "their own"
            )
        found = _without_notes(ask_urls(places[: config.shards]))
    elif here or _is_path(source):
        found = _without_notes(_local(source, places))
    else:
        return [*find_hub_shards(config)]
    formats = {format_of(place) for place, _, _ in found}
    if len(formats) > 1:
        counts = Counter(format_of(place) for place, _, _ in found)
        told = " and ".join(f"{count} {name}" for name, count in counts.items())
        raise ConfigError(
            f"{shown} holds {told} files: import one kind at a time, such as "
            f"'{shown.rstrip('/')}/*.tar'"
        )
    return [
        FileShard(index=index, place=place, identity=identity, notes=notes)
        for index, (place, identity, notes) in enumerate(found[: config.shards])
    ]


def _is_path(source: str) -> bool:
    """Whether a source that is not there was meant as a path: no data set is called so."""
    return format_of(source) is not None or HUB_NAME.fullmatch(source) is None


def _without_notes(files: list[tuple[str, str]]) -> list[tuple[str, str, str | None]]:
    """(Place, identity, notes): a parquet beside an archive of its name says what img2dataset
    made of each URL, and holds no images."""
    stems = {stem_of(place) for place, _ in files if format_of(place) == "tar"}
    notes = {
        stem_of(place): place
        for place, _ in files
        if format_of(place) == "parquet" and stem_of(place) in stems
    }
    beside = set(notes.values())
    return [
        (place, identity, notes.get(stem_of(place)))
        for place, identity in files
        if place not in beside
    ]


def _local(source: str, places: list[str]) -> list[tuple[str, str]]:
    """(path, identity) of files and of those in folders."""
    found: list[Path] = []
    for path in (path for place in places for path in _expanded(source, place)):
        if path.is_file():
            found.append(path)
            continue
        inside = (p for p in sorted(path.rglob("*")) if format_of(str(p)) and p.name != UNREAD)
        found += [p for p in inside if p.is_file() and not _is_hidden(p.relative_to(path))]
    if not found or any(format_of(str(path)) is None for path in found):
        raise ConfigError(
            f"{source} holds no {READ} file to import; a folder of picture files needs no import: "
            "give it as --data.path"
        )
    return [(str(path), f"{path.name}, {path.stat().st_size} bytes") for path in found]


def _expanded(source: str, place: str) -> list[Path]:
    """Paths that a name here stands for."""
    if os.path.exists(place):
        return [Path(place)]
    if glob.has_magic(place):
        if matches := sorted(glob.glob(place, recursive=True)):
            return [Path(match) for match in matches]
        raise ConfigError(f"{source}: no file here has a name like {place}")
    if place == source:
        raise ConfigError(f"{place}: there is no such file or folder")
    raise ConfigError(f"{source} names {place}, which is not there")


def _is_hidden(path: Path) -> bool:
    return any(part.startswith(".") or part.casefold() in SYSTEM_NAMES for part in path.parts)
