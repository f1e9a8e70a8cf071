# SPDX-License-Identifier: Apache-2.0
"""Data sets of the hub: archives are read by our own reader, others by ``datasets`` as streams."""

import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from pippin.config import ConfigError
from pippin.data.import_columns import Columns
from pippin.data.import_config import ImportConfig
from pippin.data.import_parquet import BATCH, rows_of
from pippin.data.import_rows import Look, OpenShard, Row
from pippin.data.import_shard_files import FileShard, bytes_of
from pippin.data.import_urls import import_datasets
from pippin.system.secrets import redact

LOOKED_AT = 5
"""Rows that tell the columns where the data set declares none."""
TIMEOUT = 10
"""Seconds that the hub has to say whether it has a data set."""


@dataclass(frozen=True, kw_only=True)
class HubShard:
    """One of the parts that ``datasets`` finds in a data set of the hub."""

    index: int
    config: ImportConfig

    @property
    def identity(self) -> str:
        """Name, revision and number."""
        return _identity(self.config, self.index)

    @property
    def stem(self) -> str:
        """A name that no folder has."""
        return ""

    def look(self, scratch: Path) -> Look:
        """What its declaration, or its first rows, tell of its columns.

        Raises:
            ConfigError: the data set cannot be opened.
        """
        stream = self._stream()
        features = stream.features or {}
        first = list(islice(self._rows(stream), 0 if features else LOOKED_AT))
        kinds = {name: type(feature).__name__ for name, feature in features.items()}
        return Look(
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
        """Its rows; images are bytes, or name files of the data set.

        Raises:
            ConfigError: the data set cannot be opened, or not read to its end.
        """
        stream = self._stream()
        features = stream.features or {}
        yield OpenShard(
            rows=self._rows(stream),
            columns=tuple(features),
            classes=_classes(features),
        )

    def content(self, value: Any) -> bytes | None:
        """The bytes in a cell of images, or of the image file that it names in the data set.

        Other files are not read, whatever a data set names.

        Raises:
            ConfigError: the file cannot be read.
        """
        found = bytes_of(value)
        place = value.get("path") if isinstance(value, dict) else None
        own = rf"(zip://[^:]*::)?hf://datasets/{re.escape(self.config.source)}@[^:]*"
        if found or not isinstance(place, str) or not re.fullmatch(own, place) or ".." in place:
            return found
        import fsspec

        try:
            with fsspec.open(place, "rb") as file:
                return file.read()
        except Exception as error:  # of many kinds: what its store meets
            shown, why = redact(place), redact(error)
            raise ConfigError(
                f"{shown} cannot be read: {why}; the same command goes on at this shard"
            ) from None

    def statuses(self, scratch: Path) -> Counter[str]:
        """Nothing: there are no notes of img2dataset."""
        return Counter()

    def _stream(self) -> Any:
        whole = _stream(self.config, _builder(self.config))
        return whole.shard(num_shards=whole.num_shards, index=self.index)

    def _rows(self, stream: Any) -> Iterator[Row]:
        try:
            for table in stream.with_format("arrow").iter(BATCH):
                yield from rows_of(table)
        except Exception as error:  # of many kinds, by format and by store
            raise ConfigError(
                f"{self.identity}, cannot be read to its end: {redact(error)}; other shards that "
                "are whole stay"
            ) from None


LISTS = ("List", "LargeList", "Sequence", "list")
"""Types of ``datasets`` for columns of several values."""


def find_hub_shards(config: ImportConfig) -> list[HubShard] | list[FileShard]:
    """The parts of a data set of the hub, as far as ``shards`` allows.

    Raises:
        ConfigError: no such data set, or the hub cannot be asked.
    """
    import_datasets()
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


def _check_name(config: ImportConfig) -> None:
    """Ask once whether there is such a data set, so that a missing folder is said at once."""
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
            f"{nothing_here}, and no data set of that name on the hub that you may read; one that "
            "is private or gated needs `hf auth login`"
        ) from None
    except Exception as error:  # no network, a name that no data set can have
        raise ConfigError(
            f"{nothing_here}, and whether the hub ({ENDPOINT}) has a data set of that name cannot "
            f"be asked: {redact(error)}"
        ) from None


def _builder(config: ImportConfig) -> Any:
    library = import_datasets()
    try:
        return library.load_dataset_builder(config.source, config.subset, revision=config.revision)
    except Exception as error:  # no network, no such subset, code that is refused
        raise _not_opened(config, error) from None


def _stream(config: ImportConfig, builder: Any) -> Any:
    try:
        return builder.as_streaming_dataset(split=config.split)
    except Exception as error:  # no such split, a file that cannot be read
        raise _not_opened(config, error) from None


def _archives(config: ImportConfig, builder: Any) -> list[str]:
    """URLs of the archives of a data set that consists of such; none where it does not."""
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
        f"{config.source} is no file or folder here, and as a data set of the hub it cannot be "
        f"opened: {redact(error)}"
    )


def _identity(config: ImportConfig, index: int) -> str:
    return f"{config.source} {config.revision or ''} shard {index}"


def _classes(features: Any) -> dict[str, tuple[str, ...]]:
    return {
        name: tuple(feature.names)
        for name, feature in features.items()
        if getattr(feature, "names", None)
    }
