# SPDX-License-Identifier: Apache-2.0
"""Pictures out of parquet files, WebDataset archives or the hub, into a folder of own pictures.

A shard is there as a whole or not at all, and is imported once.
"""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import as_completed
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from pippin.config import ConfigError
from pippin.data.config import ImportConfig
from pippin.data.import_columns import Columns, find_columns
from pippin.data.import_shards import PARTS, import_shard, read_part
from pippin.data.import_sources import Shard, find_shards
from pippin.data.import_urls import without_query
from pippin.system.files import STAGING_SUFFIX, remove_staged, replacing
from pippin.system.lock import folder_lock
from pippin.system.workers import worker_pool

COLUMNS = "columns.json"
"""In ``PARTS``: the columns of all shards."""

Progress = Callable[[int, int], None]
"""(shards done, shards in all)."""


@dataclass(frozen=True, kw_only=True)
class Imported:
    """What is in the folder now."""

    pictures: int
    lost: tuple[str, ...]
    """``SHARD ROW: why``, of rows that hold no picture that can be read."""
    shards: int
    before: int
    """Shards that were there already."""


def import_pictures(
    config: ImportConfig, folder: Path, *, processes: int = 1, progress: Progress | None = None
) -> Imported:
    """Write pictures and metadata.jsonl; what an earlier call finished stays.

    Args:
        config: what is taken.
        folder: new, or that of an earlier call with the same source.
        processes: shards at once.
        progress: told of every shard.

    Raises:
        ConfigError: no such source, no such column, a shard that lacks one, or a folder that holds
            something else.
        FolderBusyError: another process imports into the folder.
        WorkerKilledError: the system killed one of several processes; whole shards stay.
        OSError: no room; whole shards stay.
    """
    if processes < 1:
        raise ConfigError(f"--processes must be 1 or more; got {processes}")
    shards = find_shards(config)
    with _claimed(folder, config):
        missing = [shard for shard in shards if read_part(shard, folder) is None]
        before = len(shards) - len(missing)
        if missing:
            columns = _columns(config, shards[0], folder)
            for done, _ in enumerate(_all(missing, columns, folder, processes), start=before + 1):
                if progress is not None:
                    progress(done, len(shards))
        return _finished(shards, folder, before)


def _finished(shards: list[Shard], folder: Path, before: int) -> Imported:
    """Write the metadata of shards that are all there."""
    pictures, lost = 0, []
    with (
        replacing(folder / "metadata.jsonl") as staging,
        staging.open("w", encoding="utf-8") as file,
    ):
        for shard in shards:
            part = read_part(shard, folder)
            assert part is not None
            file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in part.rows)
            pictures += len(part.rows)
            lost += part.lost
    return Imported(pictures=pictures, lost=tuple(lost), shards=len(shards), before=before)


def _all(missing: list[Shard], columns: Columns, folder: Path, processes: int) -> Iterator[None]:
    if processes == 1 or len(missing) < 2:
        for shard in missing:
            import_shard(shard, columns, folder)
            yield
        return
    advice = f"--processes below {processes} take less"
    try:
        # The folder's lock is not given up while a worker still writes there.
        with worker_pool(min(processes, len(missing)), advice) as submit:
            jobs = [submit(import_shard, shard, columns, folder) for shard in missing]
            for job in as_completed(jobs):
                job.result()
                yield
    except BaseException:
        for left in (folder / PARTS).glob(f"*{STAGING_SUFFIX}"):  # of workers that were killed
            shutil.rmtree(left, ignore_errors=True)
        raise


def _columns(config: ImportConfig, first: Shard, folder: Path) -> Columns:
    """Those that an earlier call settled, or those of the first shard."""
    note = folder / PARTS / COLUMNS
    if note.exists():
        return Columns.load(note)
    columns = find_columns(config, first)
    columns.save(note)
    return columns


@contextmanager
def _claimed(folder: Path, config: ImportConfig) -> Iterator[None]:
    """A folder belongs to one import: another one's pictures would be mixed in."""
    parts = folder / PARTS
    # A signature in a URL is no setting: it expires, and is not to be kept beside the pictures.
    config = replace(config, source=without_query(config.source))
    if not parts.exists() and folder.exists() and os.listdir(folder):
        raise ConfigError(f"{folder} is not empty: choose a new folder to import into")
    with folder_lock(parts):
        for place in (folder, parts):
            remove_staged(place)  # of an import that was killed
        note = parts / "import.json"
        if not any(parts.glob("[0-9]*.json")):  # nothing came of it: other settings may be tried
            (parts / COLUMNS).unlink(missing_ok=True)
            config.save(note)
        before = ImportConfig.load(note)
        if before != config:
            raise ConfigError(
                f"{folder} holds what was imported from {before.source} with other settings: "
                "repeat those, or choose another folder"
            )
        yield
