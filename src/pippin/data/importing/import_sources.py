# SPDX-License-Identifier: Apache-2.0
"""Shards of an import: local files, files by URL with braces, and hub data sets."""

import glob
import os
import re
from collections import Counter
from pathlib import Path

from pippin.config import ConfigError
from pippin.data.folder.metadata import UNREAD
from pippin.data.importing.config import ImportConfig
from pippin.data.importing.hub import HubShard, find_hub_shards
from pippin.data.importing.remote import SUPPORTED, format_of, resolve_urls, stem_of
from pippin.data.importing.shard_files import FileShard
from pippin.images.folder import SYSTEM_NAMES
from pippin.system.redaction import is_url, split_sources, strip_url_secrets

MAX_NAMES = 1_000_000
"""Maximum number of names that one pattern may expand to."""


def expand_braces(text: str) -> list[str]:
    """Expand a pattern with ``{00..12}`` or ``{a,b}`` to all its names, in order.

    A range keeps the leading zeros of its first number, as in ``{000..012}``. Several pairs of
    braces give all combinations; the last pair changes fastest. Patterns joined by ``::`` follow
    one another. Other braces stay as they are.

    Raises:
        ConfigError: more than a million names.
    """
    return [name for part in split_sources(text) for name in _names(part)]


def _names(text: str) -> list[str]:
    names = [""]
    for piece in re.split(r"(\{[^{}]*\})", text):
        choices = _choices(piece)
        if len(names) * len(choices) > MAX_NAMES:
            pattern = strip_url_secrets(text)
            raise ConfigError(f"{pattern} expands to more than {MAX_NAMES} files; name fewer")
        names = [name + choice for name in names for choice in choices]
    return names


def _choices(piece: str) -> list[str]:
    """Alternatives for one piece of a pattern."""
    if bounds := re.fullmatch(r"\{(\d+)\.\.(\d+)\}", piece):
        first, last = int(bounds[1]), int(bounds[2])
        step = 1 if first <= last else -1
        numbers = range(first, last + step, step)
        if len(numbers) > MAX_NAMES:
            raise ConfigError(f"{piece} expands to more than {MAX_NAMES} files; name fewer")
        return [f"{n:0{len(bounds[1])}}" for n in numbers]
    if re.fullmatch(r"\{.*,.*\}", piece):
        return piece[1:-1].split(",")
    return [piece]


Shard = FileShard | HubShard
HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?", re.ASCII)


def find_shards(config: ImportConfig) -> list[Shard]:
    """Shards of a source, up to the limit ``shards``.

    Raises:
        ConfigError: no such source, a missing file, or a missing package.
    """
    source = config.source
    shown = strip_url_secrets(source)
    is_local = os.path.exists(source)  # Path.exists fails for long names
    places = [source] if is_local else expand_braces(source)
    if source.startswith("pipe:"):
        raise ConfigError(f"{shown}: commands are not run; give the URL that the command reads")
    if any(is_url(place) for place in places):
        if others := [place for place in places if not is_url(place)]:
            raise ConfigError(
                f"{shown} joins URLs and paths such as {others[0]}: import them into separate "
                "folders"
            )
        files = _without_notes(resolve_urls(places[: config.shards]))
    elif is_local or _is_path(source):
        files = _without_notes(_local(source, places))
    else:
        return [*find_hub_shards(config)]
    formats = {format_of(place) for place, _, _ in files}
    if len(formats) > 1:
        counts = Counter(format_of(place) for place, _, _ in files)
        kinds = " and ".join(f"{count} {name}" for name, count in counts.items())
        raise ConfigError(
            f"{shown} holds {kinds} files: import one kind at a time, such as "
            f"'{shown.rstrip('/')}/*.tar'"
        )
    return [
        FileShard(index=index, place=place, identity=identity, notes=notes)
        for index, (place, identity, notes) in enumerate(files[: config.shards])
    ]


def _is_path(source: str) -> bool:
    """True if a missing source is meant as a path, because it is not a valid hub name."""
    return format_of(source) is not None or HUB_NAME.fullmatch(source) is None


def _without_notes(files: list[tuple[str, str]]) -> list[tuple[str, str, str | None]]:
    """(Path or URL, identity, notes). A parquet file with the name of an archive holds
    img2dataset's statuses of URLs, not images."""
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
    """(path, identity) of files, including those in folders."""
    paths: list[Path] = []
    for path in (path for place in places for path in _expanded(source, place)):
        if path.is_file():
            paths.append(path)
            continue
        inside = (p for p in sorted(path.rglob("*")) if format_of(str(p)) and p.name != UNREAD)
        paths += [p for p in inside if p.is_file() and not _is_hidden(p.relative_to(path))]
    if not paths or any(format_of(str(path)) is None for path in paths):
        raise ConfigError(
            f"{source} holds no {SUPPORTED} file to import; a folder of image files needs no "
            "import: give it as --data.path"
        )
    return [(str(path), f"{path.name}, {path.stat().st_size} bytes") for path in paths]


def _expanded(source: str, place: str) -> list[Path]:
    """Local paths that a name expands to."""
    if os.path.exists(place):
        return [Path(place)]
    if glob.has_magic(place):
        if matches := sorted(glob.glob(place, recursive=True)):
            return [Path(match) for match in matches]
        raise ConfigError(f"{source}: no local file matches {place}")
    if place == source:
        raise ConfigError(f"{place}: there is no such file or folder")
    raise ConfigError(f"{source} names {place}, which is not there")


def _is_hidden(path: Path) -> bool:
    return any(part.startswith(".") or part.casefold() in SYSTEM_NAMES for part in path.parts)
