# SPDX-License-Identifier: Apache-2.0
"""Where imported pictures come from: files here or by URL, and data sets of the hub, in shards.

URLs are read by ``fsspec`` and rows by Hugging Face ``datasets``, as streams: no shard is kept on
the disk. No code of a data set is run.
"""

import glob
import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pippin.config import ConfigError
from pippin.data.braces import expand_braces
from pippin.data.config import ImportConfig
from pippin.data.import_urls import (
    FORMATS,
    ask_urls,
    import_datasets,
    is_url,
    suffix_of,
    without_query,
)
from pippin.data.metadata import UNREAD


@dataclass(frozen=True, kw_only=True)
class FileShard:
    """A parquet file or a WebDataset archive."""

    index: int
    place: str
    """Path or URL."""
    identity: str
    """Name, size and the store's tag: what can be known of it without reading it."""

    def open(self) -> Any:
        """A stream of its rows, pictures as bytes.

        Raises:
            ConfigError: it cannot be read.
        """
        library = import_datasets()
        kind = FORMATS[suffix_of(self.place)]
        escape = _escape_url if is_url(self.place) else glob.escape
        given = {"data_files": [escape(self.place)], "split": "train", "streaming": True}
        try:
            stream = library.load_dataset(kind, **given)
        except Exception as error:  # of many kinds: what a file's reader meets in it
            raise ConfigError(
                f"{without_query(self.place)} cannot be read as {kind}: {error}"
            ) from error
        return _undecoded(stream)

    def content(self, picture: Any) -> bytes | None:
        """The bytes in a cell of pictures; None where it holds none."""
        return _bytes(picture)


@dataclass(frozen=True, kw_only=True)
class HubShard:
    """One of the parts that ``datasets`` finds in a data set of the hub."""

    index: int
    config: ImportConfig

    @property
    def identity(self) -> str:
        """Name, revision and number."""
        return f"{self.config.source} {self.config.revision or ''} shard {self.index}"

    def open(self) -> Any:
        """A stream of its rows, pictures as bytes.

        Raises:
            ConfigError: the data set cannot be opened.
        """
        whole = _hub(self.config)
        return _undecoded(whole.shard(num_shards=whole.num_shards, index=self.index))

    def content(self, picture: Any) -> bytes | None:
        """The bytes in a cell of pictures, or of the picture file that it names in the data set.

        Other files are not read, whatever a data set names.

        Raises:
            ConfigError: the file cannot be read.
        """
        found = _bytes(picture)
        place = picture.get("path") if isinstance(picture, dict) else None
        own = rf"(zip://[^:]*::)?hf://datasets/{re.escape(self.config.source)}@[^:]*"
        if found or not isinstance(place, str) or not re.fullmatch(own, place) or ".." in place:
            return found
        import fsspec

        try:
            with fsspec.open(place, "rb") as file:
                return file.read()
        except Exception as error:  # of many kinds: what its store meets
            raise ConfigError(
                f"{place} cannot be read: {error}; the same command goes on at this shard"
            ) from error


Shard = FileShard | HubShard


def read_rows(stream: Any, identity: str) -> Iterator[dict[str, Any]]:
    """The rows of a stream that a shard gave, entries of a WebDataset's json read.

    Raises:
        ConfigError: what a reader meets in a damaged file, with the shard's name.
    """
    has_json = type((stream.features or {}).get("json")).__name__ == "Json"
    try:
        for row in stream:
            if has_json and isinstance(row.get("json"), str):
                row["json"] = json.loads(row["json"])
            yield row
    except Exception as error:  # of many kinds, by format and by store
        raise ConfigError(
            f"{identity}, cannot be read to its end: {error}; other shards that are whole stay"
        ) from error


def find_shards(config: ImportConfig) -> list[Shard]:
    """All shards of a source, as far as ``shards`` allows.

    Raises:
        ConfigError: no such source, a file of it that is not there, or a package that is missing.
    """
    source = config.source
    here = os.path.exists(source)  # where Path.exists fails for long ones
    places = [source] if here else expand_braces(source)
    if source.startswith("pipe:"):
        raise ConfigError(f"{source}: commands are not run; give the URL that this one reads")
    if any(is_url(place) for place in places):
        asked = ask_urls(places[: config.shards])
    elif here or places != [source]:
        asked = _local(source, places)
    else:
        count = _hub(config).num_shards
        return [
            HubShard(index=n, config=config) for n in range(min(count, config.shards or count))
        ]
    return [
        FileShard(index=index, place=place, identity=identity)
        for index, (place, identity) in enumerate(asked[: config.shards])
    ]


def _local(source: str, places: list[str]) -> list[tuple[str, str]]:
    """(path, identity) of files and of those in folders."""
    found: list[Path] = []
    for path in map(Path, places):
        if not path.exists():
            raise ConfigError(f"{source} names {path}, which is not there")
        inside = sorted(p for p in path.rglob("*") if p.suffix in FORMATS and p.name != UNREAD)
        found += [path] if path.is_file() else inside
    if not found or any(path.suffix not in FORMATS for path in found):
        raise ConfigError(
            f"{source} holds no {' or '.join(FORMATS)} file to import; a folder of "
            "picture files needs no import: give it as --data.path"
        )
    return [(str(path), f"{path.name}, {path.stat().st_size} bytes") for path in found]


def _undecoded(stream: Any) -> Any:
    """Pictures as bytes, and the json of a WebDataset as text.

    Left to the library, only entries that one of the first five rows has would be kept of a json.
    """
    features = stream.features or {}
    if "__key__" in features and isinstance(features.get("json"), dict):
        stream = stream.cast_column("json", import_datasets().Json())
    return stream.decode(False)


def _escape_url(place: str) -> str:
    """No pattern: what was to be expanded is."""
    return re.sub(r"([*[])", r"[\1]", place)


def _bytes(value: Any) -> bytes | None:
    if isinstance(value, dict):
        value = value.get("bytes")
    return value if isinstance(value, bytes) else None


def _hub(config: ImportConfig) -> Any:
    library = import_datasets()
    try:
        return library.load_dataset(
            config.source,
            config.subset,
            split=config.split,
            revision=config.revision,
            streaming=True,
        )
    except Exception as error:  # no network, no such name, no such split, code that is refused
        raise ConfigError(
            f"{config.source} is no file or folder here, and as a data set of the hub it cannot "
            f"be opened: {error}"
        ) from error
