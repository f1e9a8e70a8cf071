# SPDX-License-Identifier: Apache-2.0
"""Hub data sets: pippin reads their archives itself; ``datasets`` streams other formats."""

import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from pippin.config import ConfigError
from pippin.data.importing.columns import Columns
from pippin.data.importing.config import ImportConfig
from pippin.data.importing.remote import datasets_library
from pippin.data.importing.rows import OpenShard, Row, ShardSchema
from pippin.data.importing.shard_files import FileShard, bytes_of
from pippin.data.importing.shard_rows import BATCH, rows_of
from pippin.system.offline import is_offline, offline_reason, online_advice
from pippin.system.redaction import redact

NUM_SCHEMA_ROWS = 5
"""Number of rows that determine the columns of a data set without declared features."""
TIMEOUT = 10
"""Timeout of a hub request, in seconds."""


@dataclass(frozen=True, kw_only=True)
class HubShard:
    """One shard of a hub data set, as ``datasets`` splits it."""

    index: int
    config: ImportConfig

    @property
    def identity(self) -> str:
        """Name, revision and index."""
        return _identity(self.config, self.index)

    @property
    def stem(self) -> str:
        """Empty, because there is no archive name."""
        return ""

    def read_schema(self, scratch: Path) -> ShardSchema:
        """Schema of the shard, from declared features or the first rows.

        Raises:
            ConfigError: the data set cannot be opened.
        """
        stream = self._stream()
        features = stream.features or {}
        first = list(islice(self._rows(stream), 0 if features else NUM_SCHEMA_ROWS))
        kinds = {name: type(feature).__name__ for name, feature in features.items()}
        return ShardSchema(
            names=tuple(
                dict.fromkeys((*features, *(name for row in first for name in row.cells)))
            ),
            images=tuple(name for name, kind in kinds.items() if kind == "Image"),
            classes=_classes(features),
            lists=frozenset(name for name, kind in kinds.items() if kind in LISTS),
            dictionaries=frozenset(name for name, kind in kinds.items() if kind == "dict"),
        )

    @contextmanager
    def open(self, columns: Columns, scratch: Path) -> Iterator[OpenShard]:
        """Open the shard for its rows; images are bytes, or paths of files in the data set.

        Raises:
            ConfigError: the data set cannot be opened or read to its end.
        """
        stream = self._stream()
        features = stream.features or {}
        yield OpenShard(
            rows=self._rows(stream),
            columns=tuple(features),
            classes=_classes(features),
        )

    def content(self, value: Any) -> bytes | None:
        """Bytes of an image cell, or of the data set's file that it names.

        Files outside the data set are never read.

        Raises:
            ConfigError: the file cannot be read.
        """
        content = bytes_of(value)
        path = value.get("path") if isinstance(value, dict) else None
        own_path = rf"(zip://[^:]*::)?hf://datasets/{re.escape(self.config.source)}@[^:]*"
        if (
            content
            or not isinstance(path, str)
            or not re.fullmatch(own_path, path)
            or ".." in path
        ):
            return content
        import fsspec

        try:
            with fsspec.open(path, "rb") as file:
                return file.read()
        except Exception as error:  # of many kinds: what its store meets
            shown, why = redact(path), redact(error)
            raise ConfigError(
                f"{shown} cannot be read: {why}; run the same command again to resume at this "
                "shard"
            ) from None

    def statuses(self, scratch: Path) -> Counter[str]:
        """Empty, because there are no img2dataset statuses."""
        return Counter()

    def _stream(self) -> Any:
        dataset = _stream(self.config, _builder(self.config))
        return dataset.shard(num_shards=dataset.num_shards, index=self.index)

    def _rows(self, stream: Any) -> Iterator[Row]:
        try:
            for table in stream.with_format("arrow").iter(BATCH):
                yield from rows_of(table)
        except Exception as error:  # of many kinds, by format and by store
            raise ConfigError(
                f"{self.identity}, cannot be read to its end: {redact(error)}; complete shards "
                "are kept"
            ) from None


LISTS = ("List", "LargeList", "Sequence", "list")
"""Feature types of ``datasets`` for columns of lists."""


def find_hub_shards(config: ImportConfig) -> list[HubShard] | list[FileShard]:
    """Shards of a hub data set, up to the limit ``shards``.

    Raises:
        ConfigError: no such data set, the hub cannot be reached, or pippin is offline.
    """
    _refuse_offline(config)
    datasets_library()
    _check_name(config)
    builder = _builder(config)
    places = _archives(config, builder)
    count = len(places) if places else _stream(config, builder).num_shards
    numbers = range(min(count, config.shards or count))
    if places:
        return [
            FileShard(index=n, place=places[n], identity=_identity(config, n)) for n in numbers
        ]
    return [HubShard(index=n, config=config) for n in numbers]


def _refuse_offline(config: ImportConfig) -> None:
    """Refuse a hub data set in offline mode: it is streamed, so the hub's cache does not help."""
    if is_offline():
        raise ConfigError(
            f"{config.source}: there is no such file or folder, and {offline_reason()}, so no hub "
            f"data set is read; type `hf download --repo-type dataset {config.source} "
            f"--local-dir FOLDER` with network access and import FOLDER, or {online_advice()}"
        )


def _check_name(config: ImportConfig) -> None:
    """Check that the hub data set exists, so that a missing folder fails early."""
    from huggingface_hub import HfApi
    from huggingface_hub.constants import ENDPOINT
    from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

    nothing_here = f"{config.source}: there is no such file or folder"
    try:
        HfApi().dataset_info(config.source, revision=config.revision, timeout=TIMEOUT)
    except RevisionNotFoundError:
        raise ConfigError(
            f"--revision {config.revision}: {config.source} on the hub has no such revision"
        ) from None
    except RepositoryNotFoundError:
        raise ConfigError(
            f"{nothing_here}, and no hub data set of that name that you may read; private or "
            "gated data sets need `hf auth login`"
        ) from None
    except Exception as error:  # no network, a name that no data set can have
        raise ConfigError(
            f"{nothing_here}, and the hub ({ENDPOINT}) cannot be asked for a data set of that "
            f"name: {redact(error)}"
        ) from None


def _builder(config: ImportConfig) -> Any:
    datasets = datasets_library()
    try:
        return datasets.load_dataset_builder(
            config.source, config.subset, revision=config.revision
        )
    except Exception as error:  # no network, no such subset, code that is refused
        raise _not_opened(config, error) from None


def _stream(config: ImportConfig, builder: Any) -> Any:
    try:
        return builder.as_streaming_dataset(split=config.split)
    except Exception as error:  # no such split, a file that cannot be read
        raise _not_opened(config, error) from None


def _archives(config: ImportConfig, builder: Any) -> list[str]:
    """URLs of archives, if the data set consists of archives; else empty."""
    from datasets.packaged_modules.webdataset.webdataset import WebDataset

    if not isinstance(builder, WebDataset):
        return []
    files = {str(split): list(places) for split, places in builder.config.data_files.items()}
    if config.split not in files:
        raise ConfigError(
            f"--split {config.split}: {config.source} has no such split; it has: "
            f"{', '.join(files)}"
        )
    return files[config.split]


def _not_opened(config: ImportConfig, error: Exception) -> ConfigError:
    return ConfigError(
        f"{config.source} is no local file or folder, and as a hub data set it cannot be opened: "
        f"{redact(error)}"
    )


def _identity(config: ImportConfig, index: int) -> str:
    return f"{config.source} {config.revision or ''} shard {index}"


def _classes(features: Any) -> dict[str, tuple[str, ...]]:
    return {
        name: tuple(feature.names)
        for name, feature in features.items()
        if getattr(feature, "names", None)
    }
