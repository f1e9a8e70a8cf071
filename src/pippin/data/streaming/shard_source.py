# SPDX-License-Identifier: Apache-2.0
"""Source of shards that are encoded without unpacking, and the folder that records it."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import PIL

from pippin.config import ConfigError
from pippin.data.cache.shard_claims import ShardClaims
from pippin.data.folder.listing import FROM_SHARDS
from pippin.data.importing.columns import Columns
from pippin.data.importing.config import ShardsConfig
from pippin.data.importing.import_sources import Shard, find_shards
from pippin.data.importing.importer import COLUMNS, find_import_columns, without_secrets
from pippin.data.importing.parts import KIND, PARTS
from pippin.data.importing.shard_files import FileShard
from pippin.system.files import make_folder, remove_temporary_files
from pippin.system.formats import refuse_newer

DECODER = f"Pillow {PIL.__version__}"
NOT_IDENTITY = ("keep",)
"""Settings of a source that do not change latents."""


@dataclass(frozen=True, kw_only=True)
class ShardSource:
    """Source of shards, and the folder of their images."""

    config: ShardsConfig
    folder: Path
    shards: list[Shard]
    columns: Columns
    claims: ShardClaims
    """Claims on the records and files of the folder. Builds of several caches share them."""

    @property
    def scratch(self) -> Path:
        """Folder for the copy of a remote or compressed file."""
        return self.folder / PARTS

    def quota(self, shard: Shard) -> int:
        """Number of image files that a shard may keep; together they are ``config.keep``."""
        first = shard.index * self.config.keep // len(self.shards)
        stop = (shard.index + 1) * self.config.keep // len(self.shards)
        return stop - first


def recorded_source(folder: Path) -> ShardsConfig | None:
    """Source and columns that a folder was prepared from; None for another folder.

    Raises:
        ConfigError: the record is damaged.
    """
    path = folder / FROM_SHARDS
    return ShardsConfig.load(path) if path.is_file() else None


@contextmanager
def open_source(config: ShardsConfig, folder: Path) -> Iterator[ShardSource]:
    """List the shards of a source and find its columns; creates or checks the folder.

    Any number of processes may use a source at the same time, also for different caches.

    Raises:
        ConfigError: no such source or column, or a folder with other content.
    """
    shards = [_salvaging(shard) for shard in find_shards(config)]
    if not shards:
        raise ConfigError(f"{config.source} holds no shard")
    parts = folder / PARTS
    refuse_other_content(folder)
    make_folder(parts)
    with ShardClaims(parts) as claims:
        with claims.exclusive():
            is_only_builder = claims.is_only_builder()
            if is_only_builder:
                for place in (folder, parts):
                    remove_temporary_files(place)  # of builders that were killed
            _check_record(without_secrets(config), folder, may_change=is_only_builder)
            columns = find_import_columns(config, shards, folder)
            claims.join()
        yield ShardSource(
            config=config, folder=folder, shards=shards, columns=columns, claims=claims
        )


def refuse_other_content(folder: Path) -> None:
    """Refuse a folder that has files and was not prepared from shards.

    Raises:
        ConfigError: it has.
    """
    names = os.listdir(folder) if folder.exists() else []  # once: another builder may just begin
    if names and PARTS not in names:
        raise ConfigError(f"{folder} is not empty: give a new folder as --data.path")


def _salvaging(shard: Shard) -> Shard:
    return replace(shard, salvage=True) if isinstance(shard, FileShard) else shard


def _check_record(config: ShardsConfig, folder: Path, *, may_change: bool) -> None:
    """Record the source in a new folder, or compare it with the record.

    Args:
        config: the source.
        folder: folder of the images.
        may_change: whether other settings are allowed until the first shard is finished.
    """
    path = folder / FROM_SHARDS
    if (folder / PARTS / "import.json").exists():
        raise ConfigError(f"{folder} holds an import of image files: give a new --data.path")
    refuse_newer(path, KIND)
    if may_change and not any((folder / PARTS).glob("[0-9]*.json")):
        (folder / PARTS / COLUMNS).unlink(missing_ok=True)
        config.save(path)
    recorded = ShardsConfig.load(path)
    if recorded != config:
        raise ConfigError(
            f"{folder} was prepared from {recorded.source} with other settings: repeat those, or "
            "give a new folder as --data.path"
        )


def source_identity(config: ShardsConfig, columns: Columns) -> dict[str, Any]:
    """Settings of a source that determine the latents of all images, as JSON values by name."""
    values = without_secrets(config).to_dict()
    for name in NOT_IDENTITY:
        values.pop(name)
    return {**values, "columns": columns.to_dict(), "decoder": DECODER}


def recorded_identity(folder: Path) -> dict[str, Any]:
    """See :func:`source_identity`; of a prepared folder."""
    config = ShardsConfig.load(folder / FROM_SHARDS)
    return source_identity(config, Columns.load(folder / PARTS / COLUMNS))
