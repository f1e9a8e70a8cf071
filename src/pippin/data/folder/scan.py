# SPDX-License-Identifier: Apache-2.0
"""Scan of a custom data set: content and validity of each file.

Every file is decoded once. An index caches the results by name, size and modification time. A
later scan reads only new and changed files, and files with transient errors: no permission, or an
error of the disk or the network.
"""

import hashlib
import json
import os
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import PIL

from pippin.config import Config
from pippin.control import Size
from pippin.data.config import ImagesConfig
from pippin.data.folder.caption_files import sort_labels
from pippin.data.folder.image_table import has_table
from pippin.data.folder.layout import LayoutFacts
from pippin.data.folder.listing import (
    Entry,
    ImageSkipReason,
    InvalidSourceError,
    Layout,
    Listing,
    SkippedImage,
    list_images,
)
from pippin.data.folder.scanned import ScannedImage
from pippin.data.folder.table_scan import usable_images
from pippin.images.files import (
    PERMANENT_REASONS,
    ConversionRule,
    UnreadableImageError,
    UnreadableReason,
    inspect_image,
)
from pippin.system.files import atomic_write, file_digest, remove_temporary_files
from pippin.system.formats import with_checksum
from pippin.system.progress import ProgressCallback
from pippin.system.workers.pool import map_in_threads

INDEX_VERSION = 3
"""Version of the decoding rules; increment it when they change."""
ARCHIVES = (".zip", ".tar", ".tgz", ".gz", ".7z", ".rar")
"""Suffixes of archives, which may contain images but are not opened."""
ABSENT = -1
"""Size and time of a missing file."""
MAX_LISTED = 5
"""Maximum number of skipped images in an error message."""


@dataclass(frozen=True, kw_only=True)
class FileRecord(Config):
    """Scan result of one file."""

    num_bytes: int
    changed_ns: int
    """Modification time, in nanoseconds."""
    sha256: str = ""
    height: int = 0
    width: int = 0
    rules: tuple[ConversionRule, ...] = ()
    reason: UnreadableReason | None = None
    """Reason why the file cannot be read; None = it can."""
    detail: str = ""

    @property
    def is_cacheable(self) -> bool:
        """True if the result is valid while size and modification time are unchanged."""
        return self.reason is None or self.reason in PERMANENT_REASONS


@dataclass(frozen=True, kw_only=True)
class Index(Config):
    """Scan results of the files of one folder."""

    FORMAT = "image index"

    version: int = INDEX_VERSION
    reader: str = f"Pillow {PIL.__version__}"
    files: dict[str, FileRecord] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Scan:
    """Scan result of a custom data set."""

    layout: Layout
    images: Sequence[ScannedImage]
    """Sorted by name."""
    class_names: tuple[str, ...]
    """Class names: numbers by value, then other names in lexicographic order."""
    skipped: tuple[SkippedImage, ...]
    other_files: Mapping[str, int]
    """Suffix -> number of files that are not images."""
    caption_kinds: tuple[str, ...]
    """Kinds of captions of the source's columns."""
    unread_captions: int = 0
    """See :class:`pippin.data.folder.listing.Listing`."""
    facts: LayoutFacts = field(default_factory=LayoutFacts)
    earlier_class_names: tuple[str, ...] | None = None
    """Class names in the order of ids of older versions, for which 2.0 and 2 were different
    classes. They decode the ids of older runs that recorded no names. None if there is no
    difference."""

    @property
    def skipped_share(self) -> float:
        """Share of skipped images."""
        return len(self.skipped) / max(1, len(self.skipped) + len(self.images))

    def skip_counts(self) -> dict[ImageSkipReason, int]:
        """Reason -> number of skipped images, the most frequent first."""
        return dict(Counter(image.reason for image in self.skipped).most_common())


def scan(
    config: ImagesConfig, *, fresh: bool = False, progress: ProgressCallback | None = None
) -> Scan:
    """List the images of a folder and decode each one.

    Args:
        config: folder and minimum size.
        fresh: read every file again and ignore the index.
        progress: called after every file.

    Raises:
        InvalidSourceError: the folder contains no images.
        ValueError, OSError: see :func:`pippin.data.folder.listing.list_images`.
    """
    if has_table(Path(config.path)):
        return _scan_table(config)
    listing = list_images(config)
    index_path = _index_path(config)
    before = {} if fresh else _load_index(index_path)
    files = _records(listing.entries, before, progress or (lambda done, total: None))
    if files != before:
        _save_index(index_path, Index(files=files))
    return _select(listing, files, config.min_side)


def _scan_table(config: ImagesConfig) -> Scan:
    """Scan of a data set that was encoded from shards, which were read then."""
    images, class_names, skipped = usable_images(Path(config.path), config.min_side)
    return Scan(
        layout="metadata",
        images=images,
        class_names=class_names,
        skipped=tuple(sorted(skipped, key=lambda image: image.name)),
        other_files={},
        caption_kinds=images.caption_kinds,
    )


def check_skipped_share(result: Scan, config: ImagesConfig) -> None:
    """Reject a source with too many skipped images, or with too few images for two splits.

    Raises:
        InvalidSourceError: with the count of each reason and the first files.
    """
    total = len(result.skipped) + len(result.images)
    if result.skipped_share > config.max_lost_share:
        counts = ", ".join(f"{count} {reason}" for reason, count in result.skip_counts().items())
        first = "".join(
            f"\n  {image.name}: {image.reason}: {image.detail}"
            for image in result.skipped[:MAX_LISTED]
        )
        raise InvalidSourceError(
            f"{config.path}: {len(result.skipped)} of {total} images would be skipped, more than "
            f"the allowed share of {config.max_lost_share:g}: {counts}. Repair or remove them, or "
            f"allow more with --data.max-lost-share.{_archives(result)}\nThe first:{first}\n"
            f"`pippin data check {config.path}` lists all"
        )
    digests = (image.sha256 for image in result.images)
    a_digest = next(digests, None)
    if all(digest == a_digest for digest in digests):
        raise InvalidSourceError(
            f"{config.path} has {len(result.images)} usable images; at least 2 different ones "
            "are needed: one to train on, one held out"
        )


def _archives(result: Scan) -> str:
    """Advice about archives, if images are missing that they may contain."""
    suffixes = [suffix for suffix in ARCHIVES if suffix in result.other_files]
    any_missing = any(image.reason == "missing" for image in result.skipped)
    if not (any_missing and suffixes):
        return ""
    return f" {', '.join(suffixes)} files are not opened: unpack them first."


def _records(
    entries: list[Entry], before: Mapping[str, FileRecord], progress: ProgressCallback
) -> dict[str, FileRecord]:
    """Record of each entry; unchanged files with a cacheable record are not read again."""
    files: dict[str, FileRecord] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Pillow; errors are handled here
        records = map_in_threads(
            lambda entry: _record(entry.path, before.get(entry.name)), entries, os.cpu_count() or 1
        )
        for entry, record in zip(entries, records, strict=True):
            files[entry.name] = record
            progress(len(files), len(entries))
    return files


def _record(path: Path, before: FileRecord | None) -> FileRecord:
    """Scan one file."""
    try:
        status = path.stat()
        num_bytes, changed = status.st_size, status.st_mtime_ns
    except OSError:
        num_bytes, changed = ABSENT, ABSENT
    if (
        before
        and before.is_cacheable
        and (before.num_bytes, before.changed_ns) == (num_bytes, changed)
    ):
        return before
    record = FileRecord(num_bytes=num_bytes, changed_ns=changed)
    try:
        facts = inspect_image(path)
        sha256 = file_digest(path)
    except UnreadableImageError as error:
        return replace(record, reason=error.reason, detail=error.detail)
    except OSError as error:  # the file was decoded, but could not be read again
        return replace(record, reason="system error", detail=error.strerror or str(error))
    height, width = facts.size
    return replace(record, sha256=sha256, height=height, width=width, rules=facts.rules)


def _select(listing: Listing, files: Mapping[str, FileRecord], min_side: int) -> Scan:
    """Select usable images and skipped ones."""
    skipped, usable = list(listing.skipped), []
    for entry in listing.entries:
        record = files[entry.name]
        if reason := _skip_reason(record, min_side):
            skipped.append(SkippedImage(name=entry.name, reason=reason[0], detail=reason[1]))
        else:
            usable.append((entry, record))
    class_names = tuple(sort_labels(entry.label for entry, _ in usable))
    class_ids = {name: number for number, name in enumerate(class_names)}
    images = tuple(
        ScannedImage(
            name=entry.name,
            path=entry.path,
            label=class_ids[entry.label],
            captions=entry.captions,
            size=Size(record.height, record.width),
            sha256=record.sha256,
            rules=record.rules,
        )
        for entry, record in usable
    )
    return Scan(
        layout=listing.layout,
        images=images,
        class_names=class_names,
        skipped=tuple(sorted(skipped, key=lambda image: image.name)),
        other_files=dict(listing.other_files.most_common()),
        caption_kinds=listing.caption_kinds,
        unread_captions=listing.unread_captions,
        facts=listing.facts,
        earlier_class_names=_earlier_names([entry for entry, _ in usable], class_names),
    )


def _skip_reason(record: FileRecord, min_side: int) -> tuple[ImageSkipReason, str] | None:
    """Reason and detail of a skipped file; None = usable."""
    if record.reason:
        return record.reason, record.detail
    size = f"{record.height} x {record.width} pixels (height x width)"
    if min(record.height, record.width) < min_side:
        return "too small", f"{size}; min_side is {min_side}"
    return None


def _earlier_names(entries: list[Entry], class_names: tuple[str, ...]) -> tuple[str, ...] | None:
    """Labels as written, in the order of ids of older versions, for which only digits were
    numbers; None if each id means the same class now."""

    def order(name: str) -> tuple[int, str]:
        return (int(name), name) if name.isascii() and name.isdigit() else (2**63, name)

    labels = {entry.written_label: entry.label for entry in entries}
    names = tuple(sorted(labels, key=order))
    return None if tuple(labels[name] for name in names) == class_names else names


def _index_path(config: ImagesConfig) -> Path:
    folder = str(Path(config.path).resolve())
    digest = hashlib.sha256(os.fsencode(folder)).hexdigest()[:16]
    return Path(config.index_folder) / f"index-{digest}.json"


def _load_index(path: Path) -> dict[str, FileRecord]:
    """Load the index; empty if the file is absent, damaged or from another reader."""
    try:
        index = Index.load(path)
    except (OSError, ValueError):
        return {}
    current = Index()
    same = (index.version, index.reader) == (current.version, current.reader)
    return index.files if same else {}


def _save_index(path: Path, index: Index) -> None:
    """Save the index; if that fails, the next scan reads the files again."""
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_temporary_files(path.parent, path.name)  # left by a killed scan
        with atomic_write(path, durable=False) as staging:
            content = with_checksum(Index.FORMAT, index.to_dict())
            staging.write_text(json.dumps(content), encoding="utf-8")
