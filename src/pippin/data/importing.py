# SPDX-License-Identifier: Apache-2.0
"""Images out of parquet files, WebDataset archives or the hub, into a custom data set's folder.

A shard is there as a whole or not at all, and is imported once.
"""

import json
import os
import shutil
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import as_completed
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from pippin.config import ConfigError
from pippin.data.import_columns import Columns, find_columns
from pippin.data.import_config import FOLDER, ImportConfig
from pippin.data.import_folders import FolderClasses, find_classes, inner_folder
from pippin.data.import_shards import PARTS, Part, import_shard, read_part
from pippin.data.import_sources import Shard, find_shards
from pippin.system.files import STAGING_SUFFIX, remove_staged, replacing
from pippin.system.lock import folder_lock
from pippin.system.secrets import without_secrets
from pippin.system.workers import worker_pool

COLUMNS = "columns.json"
"""In ``PARTS``: the columns of all shards."""

Progress = Callable[[int, int], None]
"""(shards done, shards in all)."""


@dataclass(kw_only=True)
class Imported:
    """What is in the folder now, and what of the source is not."""

    shards: int
    before: int
    """Shards that were there already."""
    pictures: int = 0
    lost: tuple[str, ...] = ()
    """``SHARD ROW: why``, of rows that were skipped."""
    captions: int = 0
    """Images that have a caption."""
    labels: int = 0
    """Images that have a class."""
    classes: set[str] = field(default_factory=set)
    taken: defaultdict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    """image, label or a column of metadata.jsonl -> column of the source -> rows."""
    unread: Counter[str] = field(default_factory=Counter)
    """Columns and kinds of members that were not taken -> how many."""
    statuses: Counter[str] = field(default_factory=Counter)
    """What img2dataset says of the URLs of its archives -> how many."""
    empty: int = 0
    """Shards without rows."""
    uncounted: int = 0
    """Shards of an earlier version, of which it is not known what was not taken."""


def import_pictures(
    config: ImportConfig, folder: Path, *, processes: int = 1, progress: Progress | None = None
) -> Imported:
    """Write images and metadata.jsonl; what an earlier call finished stays.

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
            columns = _columns(config, shards, folder)
            for done, _ in enumerate(_all(missing, columns, folder, processes), start=before + 1):
                if progress is not None:
                    progress(done, len(shards))
        return _finished(config, shards, folder, before)


def _finished(config: ImportConfig, shards: list[Shard], folder: Path, before: int) -> Imported:
    """Write the metadata of shards that are all there."""
    imported = Imported(shards=len(shards), before=before)
    classes = None
    if config.label in (None, FOLDER):
        parts = ((shard.stem, _whole_part(shard, folder)) for shard in shards)
        classes = find_classes(parts, asked=config.label == FOLDER)
    with (
        replacing(folder / "metadata.jsonl") as staging,
        staging.open("w", encoding="utf-8") as file,
    ):
        for shard in shards:
            part = _whole_part(shard, folder)
            if classes is not None:
                _add_folders(part, shard.stem, classes)
            file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in part.rows)
            _count(imported, part)
    return imported


def _whole_part(shard: Shard, folder: Path) -> Part:
    part = read_part(shard, folder, sizes=False)
    assert part is not None
    return part


def _add_folders(part: Part, stem: str, classes: FolderClasses) -> None:
    """The class of each row of an archive by the folder that it lies in."""
    counts = part.taken.setdefault("label", {}) if classes.names else part.unread
    for row, outer in zip(part.rows, part.folders or (), strict=True):
        folder = inner_folder(outer, stem)
        label = classes.names.get(folder)
        if label is not None:
            row["label"] = label
        if label is not None or (folder and not classes.names):
            counts["folders"] = counts.get("folders", 0) + 1


def _count(imported: Imported, part: Part) -> None:
    labels = [row["label"] for row in part.rows if "label" in row]
    imported.pictures += len(part.rows)
    imported.lost += tuple(part.lost)
    imported.captions += sum("text" in row for row in part.rows)
    imported.labels += len(labels)
    imported.classes.update(labels)
    for role, counts in part.taken.items():
        imported.taken[role].update(counts)
    imported.unread.update(part.unread)
    imported.statuses.update(part.statuses)
    imported.empty += not part.rows and not part.lost
    imported.uncounted += part.folders is None


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


def _columns(config: ImportConfig, shards: list[Shard], folder: Path) -> Columns:
    """Those that an earlier call settled, or those of the first shard that has rows."""
    note = folder / PARTS / COLUMNS
    if note.exists():
        return Columns.load(note)
    looks = (shard.look(folder / PARTS) for shard in shards)
    first = next(looks)
    if not first.names:
        first = next((look for look in looks if look.names), first)
    columns = find_columns(config, first)
    columns.save(note)
    return columns


@contextmanager
def _claimed(folder: Path, config: ImportConfig) -> Iterator[None]:
    """A folder belongs to one import: another one's pictures would be mixed in."""
    parts = folder / PARTS
    # A signature in a URL is no setting: it expires, and is not to be kept beside the images.
    config = _without_secrets(config)
    if not parts.exists() and folder.exists() and os.listdir(folder):
        raise ConfigError(f"{folder} is not empty: choose a new folder to import into")
    with folder_lock(parts):
        for place in (folder, parts):
            remove_staged(place)  # of an import that was killed
        note = parts / "import.json"
        if not any(parts.glob("[0-9]*.json")):  # nothing came of it: other settings may be tried
            (parts / COLUMNS).unlink(missing_ok=True)
            config.save(note)
        kept = ImportConfig.load(note)
        before = _without_secrets(kept)
        if kept != before:  # of an earlier version
            before.save(note)
        if before != config:
            raise ConfigError(
                f"{folder} holds what was imported from {before.source} with other settings: "
                "repeat those, or choose another folder"
            )
        yield


def _without_secrets(config: ImportConfig) -> ImportConfig:
    return replace(config, source=without_secrets(config.source))
