# SPDX-License-Identifier: Apache-2.0
"""Import of parquet files, WebDataset archives or hub data sets into a folder of images.

Each shard is imported atomically and once.

Folders inside archives become classes, as in a folder of class folders. Those that are not classes
are removed first: a folder with the archive's name, folders with names of splits, and a folder
that contains all images.
"""

import json
import os
import shutil
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import as_completed
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple, TypeVar

from pippin.config import ConfigError
from pippin.data.folder.caption_files import NotTextError, clean_label
from pippin.data.folder.layout import SPLITS
from pippin.data.folder.listing import FROM_SHARDS
from pippin.data.importing.columns import Columns, find_columns
from pippin.data.importing.config import FOLDER, ImportConfig
from pippin.data.importing.import_sources import Shard, find_shards
from pippin.data.importing.parts import KIND, PARTS, Part, read_part
from pippin.data.importing.rows import printable
from pippin.data.importing.shards import import_shard
from pippin.system.files import TEMPORARY_SUFFIX, atomic_write, remove_temporary_files
from pippin.system.formats import refuse_newer
from pippin.system.lock import folder_lock
from pippin.system.progress import ProgressCallback
from pippin.system.redaction import strip_url_secrets
from pippin.system.workers.pool import worker_pool


class FolderClasses(NamedTuple):
    """Classes of the folders inside archives."""

    names: Mapping[str, str | None]
    """Folder, as :func:`inner_folder` returns it -> class; empty if folders are not classes."""


def find_classes(parts: Iterable[tuple[str, Part]], *, requested: bool) -> FolderClasses | None:
    """Find the classes of the folders of an import.

    Args:
        parts: name and record of each archive.
        requested: True if the user requested folders. Otherwise folders are classes only if no row
            has another class and every row is in a folder.

    Returns:
        None if folders carry no information: there is at most one, or rows have other classes.
    """
    folders: set[str] = set()
    num_outside = 0
    for stem, part in parts:
        has_labels = any("label" in row for row in part.rows)
        if part.folders is None or (has_labels and not requested):
            return None
        inner = [inner_folder(folder, stem) for folder in part.folders]
        num_outside += inner.count("")
        folders.update(inner)
    folders.discard("")
    names = _names(folders, requested=requested) if requested or not num_outside else {}
    if len(folders) < 2 and not names:
        return None
    return FolderClasses(names)


def inner_folder(folder: str, stem: str) -> str:
    """Folder without an outermost folder that has the archive's name."""
    first, _, rest = folder.partition("/")
    return rest if stem and first == stem else folder


def _names(folders: set[str], *, requested: bool) -> dict[str, str | None]:
    """Folder -> class; empty if all images would have the same class."""
    paths = {folder: folder.split("/") for folder in folders}
    while paths:
        firsts = {path[0] if path else "" for path in paths.values()}
        if "" in firsts and not requested:
            return {}
        are_splits = {first.lower() for first in firsts} <= SPLITS
        is_last = requested and all(len(path) < 2 for path in paths.values())
        if is_last or (len(firsts) > 1 and not are_splits):
            return {folder: _label(path[0]) if path else None for folder, path in paths.items()}
        paths = {folder: path[1:] for folder, path in paths.items()}
    return {}


def _label(name: str) -> str | None:
    try:
        return clean_label(name)
    except NotTextError:  # the name is not UTF-8
        return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


COLUMNS = "columns.json"
"""File in ``PARTS`` with the columns of all shards."""

C = TypeVar("C", bound=ImportConfig)


@dataclass(kw_only=True)
class ImportResult:
    """Result of an import: contents of the folder, and skipped or ignored parts of the source."""

    shards: int
    before: int
    """Shards from earlier calls."""
    images: int = 0
    skipped: tuple[str, ...] = ()
    """Skipped rows as ``SHARD ROW: reason``."""
    captions: int = 0
    """Number of images with a caption."""
    labels: int = 0
    """Number of images with a class."""
    classes: set[str] = field(default_factory=set)
    taken: defaultdict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    """image, label or a column of metadata.jsonl -> column of the source -> rows."""
    unread: Counter[str] = field(default_factory=Counter)
    """Ignored columns and kinds of members -> count."""
    statuses: Counter[str] = field(default_factory=Counter)
    """img2dataset's status of URLs -> count."""
    empty: int = 0
    """Number of shards without rows."""
    repeated_keys: int = 0
    """Number of samples with the key of an earlier one of their shard; all of them are used."""
    uncounted: int = 0
    """Number of shards from an earlier version, whose ignored values are unknown."""


def import_images(
    config: ImportConfig,
    folder: Path,
    *,
    processes: int = 1,
    progress: ProgressCallback | None = None,
) -> ImportResult:
    """Write images and metadata.jsonl; shards of earlier calls are kept.

    Args:
        config: source and columns.
        folder: a new folder, or the folder of an earlier call with the same source.
        processes: number of shards imported in parallel.
        progress: called after every shard.

    Raises:
        ConfigError: no such source or column, a shard without a column, or a folder with other
            content.
        FolderBusyError: another process imports into the folder.
        WorkerKilledError: the system killed a worker process; complete shards are kept.
        OSError: no disk space; complete shards are kept.
    """
    if processes < 1:
        raise ConfigError(f"--processes must be 1 or more; got {processes}")
    shards = find_shards(config)
    with _locked_folder(folder, config):
        missing = [shard for shard in shards if read_part(shard, folder) is None]
        num_before = len(shards) - len(missing)
        if missing:
            columns = find_import_columns(config, shards, folder)
            for done, _ in enumerate(
                _import_all(missing, columns, folder, processes), start=num_before + 1
            ):
                if progress is not None:
                    progress(done, len(shards))
        return write_metadata(config, shards, folder, num_before)


def write_metadata(
    config: ImportConfig, shards: list[Shard], folder: Path, num_before: int
) -> ImportResult:
    """Write ``metadata.jsonl`` from the records of complete shards.

    Args:
        config: source and columns.
        shards: all shards of the source.
        folder: folder of the import.
        num_before: number of shards from earlier calls.
    """
    imported = ImportResult(shards=len(shards), before=num_before)
    classes = None
    if config.label in (None, FOLDER):
        parts = ((shard.stem, _complete_part(shard, folder)) for shard in shards)
        classes = find_classes(parts, requested=config.label == FOLDER)
    with (
        atomic_write(folder / "metadata.jsonl") as staging,
        staging.open("w", encoding="utf-8") as file,
    ):
        for shard in shards:
            part = _complete_part(shard, folder)
            if classes is not None:
                _add_folders(part, shard.stem, classes)
            file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in part.rows)
            _count(imported, part)
    return imported


def _complete_part(shard: Shard, folder: Path) -> Part:
    part = read_part(shard, folder, sizes=False)
    assert part is not None
    return part


def _add_folders(part: Part, stem: str, classes: FolderClasses) -> None:
    """Set the class of each row of an archive from its folder."""
    counts = part.taken.setdefault("label", {}) if classes.names else part.unread
    for row, outer in zip(part.rows, part.folders or (), strict=True):
        folder = inner_folder(outer, stem)
        label = classes.names.get(folder)
        if label is not None:
            row["label"] = label
        if label is not None or (folder and not classes.names):
            counts["folders"] = counts.get("folders", 0) + 1


def _count(imported: ImportResult, part: Part) -> None:
    labels = [row["label"] for row in part.rows if "label" in row]
    imported.images += len(part.rows)
    imported.skipped += tuple(part.lost)
    imported.captions += sum("text" in row for row in part.rows)
    imported.labels += len(labels)
    imported.classes.update(labels)
    for role, counts in part.taken.items():
        imported.taken[role].update(counts)
    imported.unread.update(part.unread)
    imported.statuses.update(part.statuses)
    imported.empty += not part.rows and not part.lost
    imported.repeated_keys += part.repeated_keys
    imported.uncounted += part.folders is None


def _import_all(
    missing: list[Shard], columns: Columns, folder: Path, processes: int
) -> Iterator[None]:
    if processes == 1 or len(missing) < 2:
        for shard in missing:
            import_shard(shard, columns, folder)
            yield
        return
    advice = f"--processes below {processes} take less"
    try:
        # The folder stays locked while a worker still writes.
        with worker_pool(min(processes, len(missing)), advice) as submit:
            jobs = [submit(import_shard, shard, columns, folder) for shard in missing]
            for job in as_completed(jobs):
                job.result()
                yield
    except BaseException:
        for staging in (folder / PARTS).glob(f"*{TEMPORARY_SUFFIX}"):  # left by killed workers
            shutil.rmtree(staging, ignore_errors=True)
        raise


def find_import_columns(config: ImportConfig, shards: list[Shard], folder: Path) -> Columns:
    """Columns from an earlier call, or from the first shard with rows.

    Raises:
        ConfigError: see :func:`pippin.data.importing.columns.find_columns`.
    """
    path = folder / PARTS / COLUMNS
    if path.exists():
        return Columns.load(path)
    schemas = (shard.read_schema(folder / PARTS) for shard in shards)
    first = next(schemas)
    if not first.names:
        first = next((schema for schema in schemas if schema.names), first)
    columns = find_columns(config, first)
    columns.save(path)
    return columns


@contextmanager
def _locked_folder(folder: Path, config: ImportConfig) -> Iterator[None]:
    """Lock a folder and check that it belongs to this import."""
    parts = folder / PARTS
    # Signatures in URLs are not settings: they expire and must not be stored beside the images.
    config = without_secrets(config)
    if not parts.exists() and folder.exists() and os.listdir(folder):
        raise ConfigError(f"{folder} is not empty: choose a new folder to import into")
    if (folder / FROM_SHARDS).exists():
        raise ConfigError(
            f"{folder} holds images that were encoded from shards: give a new --folder to import "
            "into"
        )
    with folder_lock(parts):
        for subfolder in (folder, parts):
            remove_temporary_files(subfolder)  # of an import that was killed
        path = parts / "import.json"
        refuse_newer(path, KIND)
        if not any(parts.glob("[0-9]*.json")):  # nothing was imported: other settings are allowed
            (parts / COLUMNS).unlink(missing_ok=True)
            config.save(path)
        stored = ImportConfig.load(path)
        recorded = without_secrets(stored)
        if stored != recorded:  # an earlier version
            recorded.save(path)
        if recorded != config:
            raise ConfigError(
                f"{folder} holds an import of {recorded.source} with other settings: repeat "
                "those, or choose another folder"
            )
        yield


def without_secrets(config: C) -> C:
    """Configuration whose source has no passwords and signatures."""
    return replace(config, source=strip_url_secrets(config.source))


NAMES = {"image": "images", "text": "captions", "label": "classes"}
SHOWN = 12
"""Maximum number of names listed of each kind."""


def summary(imported: ImportResult) -> str:
    """Imported columns, counts of rows with image, caption and class, and ignored values."""
    roles = dict.fromkeys(("image", "text", *sorted(imported.taken, key="label".__eq__)))
    columns = [
        f"{NAMES.get(role, role)} from {_counts(imported.taken[role])}"
        for role in roles
        if imported.taken[role]
    ]
    rows = imported.images + len(imported.skipped)
    classes = f" ({len(imported.classes)} classes)" if imported.classes else ""
    parts = [
        *columns,
        f"{rows} rows: {imported.images} with image, {imported.captions} with caption, "
        f"{imported.labels} with class{classes}, {len(imported.skipped)} skipped",
        f"ignored: {_counts(imported.unread) or 'nothing'}",
    ]
    if imported.statuses:
        parts.append(f"img2dataset: {_counts(imported.statuses)}")
    if imported.empty:
        parts.append(f"shards without rows: {imported.empty}")
    if imported.repeated_keys:
        parts.append(f"samples with the key of another, all used: {imported.repeated_keys}")
    if imported.uncounted:
        parts.append(
            f"ignored values of {imported.uncounted} shards are unknown: an earlier version "
            "imported them"
        )
    return "; ".join(parts)


def _counts(counts: Mapping[str, int]) -> str:
    """Names with their counts, the most frequent first."""
    ordered = sorted(counts.items(), key=lambda pair: -pair[1])
    listed = [f"{printable(name)} ({count})" for name, count in ordered[:SHOWN]]
    more = ordered[SHOWN:]
    if more:
        listed.append(f"and {len(more)} more ({sum(count for _, count in more)})")
    return ", ".join(listed)
