# SPDX-License-Identifier: Apache-2.0
"""What is in each file of a folder of own pictures, and which of them can be used.

All files are decoded once. What their bytes decide is remembered by name, size and time of change,
so that a later scan reads only files that are new or changed, and those that could not be read for
a reason that may pass: no permission, an error of the disk or the network.
"""

import hashlib
import json
import os
import warnings
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import PIL

from pippin.config import Config
from pippin.control import Size
from pippin.data.cleaning import sort_labels
from pippin.data.config import ImagesConfig
from pippin.data.layout import LayoutFacts
from pippin.data.listing import (
    Entry,
    Layout,
    Listing,
    LossReason,
    LostFile,
    SourceRefusedError,
    list_pictures,
)
from pippin.image_files import OF_BYTES, Reason, Rule, UnreadableImageError, inspect_image
from pippin.system.files import file_digest, remove_staged, replacing
from pippin.system.formats import stamped
from pippin.system.threads import map_in_threads

INDEX_VERSION = 3
"""Raised whenever the rules by which files are read change."""
ARCHIVES = (".zip", ".tar", ".tgz", ".gz", ".7z", ".rar")
"""Suffixes of files that may hold images and are not opened."""
ABSENT = -1
"""Size and time of a file that is not there."""
SHOWN = 5
"""Lost files that an error names."""

Progress = Callable[[int, int], None]
"""Called with (files done, files in all)."""


@dataclass(frozen=True, kw_only=True)
class FileRecord(Config):
    """What was found in one file."""

    num_bytes: int
    changed_ns: int
    """Time of the last change, in nanoseconds."""
    sha256: str = ""
    height: int = 0
    width: int = 0
    rules: tuple[Rule, ...] = ()
    reason: Reason | None = None
    """Why it cannot be read; None = it can."""
    detail: str = ""

    @property
    def lasts(self) -> bool:
        """Whether it holds for as long as the file has the same size and time of change."""
        return self.reason is None or self.reason in OF_BYTES


@dataclass(frozen=True, kw_only=True)
class Index(Config):
    """What was found in the files of one folder."""

    FORMAT = "image index"

    version: int = INDEX_VERSION
    reader: str = f"Pillow {PIL.__version__}"
    files: dict[str, FileRecord] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class OwnPicture:
    """A picture that is used."""

    name: str
    path: Path
    label: int
    """A place in the scan's class names."""
    captions: Mapping[str, str]
    """Kind -> caption, of those that the picture has."""
    size: Size
    """Of the file as stored, after EXIF rotation."""
    sha256: str
    """Of the file's bytes."""
    rules: tuple[Rule, ...]


@dataclass(frozen=True, kw_only=True)
class Scan:
    """All that is known of a source."""

    layout: Layout
    pictures: tuple[OwnPicture, ...]
    """Sorted by name."""
    class_names: tuple[str, ...]
    """Of the pictures: numbers in the order of their values, then other names as text."""
    lost: tuple[LostFile, ...]
    passed_over: Mapping[str, int]
    """Suffix -> how many files that are no pictures."""
    caption_kinds: tuple[str, ...]
    """Of the source's columns."""
    unread_captions: int = 0
    """As of :class:`pippin.data.listing.Listing`."""
    facts: LayoutFacts = field(default_factory=LayoutFacts)
    earlier_class_names: tuple[str, ...] | None = None
    """Class id -> name as versions before 2.0 and 2 were one class had them, where that differs:
    what the ids of an older run mean that kept no names. None where it does not."""

    @property
    def lost_share(self) -> float:
        """Lost files among all pictures of the source."""
        return len(self.lost) / max(1, len(self.lost) + len(self.pictures))

    def loss_counts(self) -> dict[LossReason, int]:
        """Reason -> how many files, the most frequent first."""
        return dict(Counter(one.reason for one in self.lost).most_common())


def scan(config: ImagesConfig, *, fresh: bool = False, progress: Progress | None = None) -> Scan:
    """List a folder's pictures and look into each.

    Args:
        config: where they are, and how small they may be.
        fresh: read every file anew, whatever is remembered of it.
        progress: told after every file.

    Raises:
        SourceRefusedError: the folder holds no picture at all.
        ValueError, OSError: see :func:`pippin.data.listing.list_pictures`.
    """
    listing = list_pictures(config)
    place = _index_path(config)
    before = {} if fresh else _load_index(place)
    files = _records(listing.entries, before, progress or (lambda done, total: None))
    if files != before:
        _save_index(place, Index(files=files))
    return _judged(listing, files, config.min_side)


def check_losses(found: Scan, config: ImagesConfig) -> None:
    """Refuse a source that lost too much, or of which nothing is left for one of the splits.

    Raises:
        SourceRefusedError: with the counts for each reason and the first files.
    """
    total = len(found.lost) + len(found.pictures)
    if found.lost_share > config.max_lost_share:
        counts = ", ".join(f"{count} {reason}" for reason, count in found.loss_counts().items())
        first = "".join(
            f"\n  {one.name}: {one.reason}: {one.detail}" for one in found.lost[:SHOWN]
        )
        raise SourceRefusedError(
            f"{config.path} would lose {len(found.lost)} of {total} pictures, more than the "
            f"allowed share of {config.max_lost_share:g}: {counts}. Mend or remove them, or allow "
            f"more with --data.max-lost-share.{_archives(found)}\nThe first:{first}\n"
            f"`pippin data check {config.path}` lists all"
        )
    if len({picture.sha256 for picture in found.pictures}) < 2:
        raise SourceRefusedError(
            f"{config.path} has {len(found.pictures)} usable pictures, and of different ones at "
            "least 2 are needed: one to train on, one held out"
        )


def _archives(found: Scan) -> str:
    """What to say of images that are missing where archives lie, which may hold them."""
    suffixes = [suffix for suffix in ARCHIVES if suffix in found.passed_over]
    missing = any(one.reason == "missing" for one in found.lost)
    if not (missing and suffixes):
        return ""
    return f" {', '.join(suffixes)} files lie there and are not opened: unpack them first."


def _records(
    entries: list[Entry], before: Mapping[str, FileRecord], progress: Progress
) -> dict[str, FileRecord]:
    """One record for each entry; files that have not changed are not read again where what was
    found lasts."""
    files: dict[str, FileRecord] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's: what a file is worth is judged here
        found = map_in_threads(
            lambda one: _record(one.path, before.get(one.name)), entries, os.cpu_count() or 1
        )
        for entry, record in zip(entries, found, strict=True):
            files[entry.name] = record
            progress(len(files), len(entries))
    return files


def _record(path: Path, before: FileRecord | None) -> FileRecord:
    """What is in a file."""
    try:
        status = path.stat()
        num_bytes, changed = status.st_size, status.st_mtime_ns
    except OSError:
        num_bytes, changed = ABSENT, ABSENT
    if before and before.lasts and (before.num_bytes, before.changed_ns) == (num_bytes, changed):
        return before
    record = FileRecord(num_bytes=num_bytes, changed_ns=changed)
    try:
        facts = inspect_image(path)
        sha256 = file_digest(path)
    except UnreadableImageError as error:
        return replace(record, reason=error.reason, detail=error.detail)
    except OSError as error:  # it was decoded, and then could not be read again
        return replace(record, reason="system error", detail=error.strerror or str(error))
    height, width = facts.size
    return replace(record, sha256=sha256, height=height, width=width, rules=facts.rules)


def _judged(listing: Listing, files: Mapping[str, FileRecord], min_side: int) -> Scan:
    """Pictures and losses."""
    lost, kept = list(listing.lost), []
    for entry in listing.entries:
        record = files[entry.name]
        if loss := _loss(record, min_side):
            lost.append(LostFile(name=entry.name, reason=loss[0], detail=loss[1]))
        else:
            kept.append((entry, record))
    class_names = tuple(sort_labels(entry.label for entry, _ in kept))
    ids = {name: number for number, name in enumerate(class_names)}
    pictures = tuple(
        OwnPicture(
            name=entry.name,
            path=entry.path,
            label=ids[entry.label],
            captions=entry.captions,
            size=Size(record.height, record.width),
            sha256=record.sha256,
            rules=record.rules,
        )
        for entry, record in kept
    )
    return Scan(
        layout=listing.layout,
        pictures=pictures,
        class_names=class_names,
        lost=tuple(sorted(lost, key=lambda one: one.name)),
        passed_over=dict(listing.passed_over.most_common()),
        caption_kinds=listing.caption_kinds,
        unread_captions=listing.unread_captions,
        facts=listing.facts,
        earlier_class_names=_earlier_names([entry for entry, _ in kept], class_names),
    )


def _loss(record: FileRecord, min_side: int) -> tuple[LossReason, str] | None:
    """Why a file is not used; None = it is."""
    if record.reason:
        return record.reason, record.detail
    size = f"{record.height} x {record.width} pixels (height x width)"
    if min(record.height, record.width) < min_side:
        return "too small", f"{size}; min_side is {min_side}"
    return None


def _earlier_names(entries: list[Entry], class_names: tuple[str, ...]) -> tuple[str, ...] | None:
    """Labels as written, in the order that ids had while only digits were numbers; None where
    each id means the same class now."""

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
    """What is remembered; nothing where the file is absent, damaged or of another reader."""
    try:
        index = Index.load(path)
    except (OSError, ValueError):
        return {}
    current = Index()
    same = (index.version, index.reader) == (current.version, current.reader)
    return index.files if same else {}


def _save_index(path: Path, index: Index) -> None:
    """Remember; where that cannot be written, the next scan reads the files again."""
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_staged(path.parent, path.name)  # of a scan that was killed
        with replacing(path, durable=False) as staging:
            content = stamped(Index.FORMAT, index.to_dict())
            staging.write_text(json.dumps(content), encoding="utf-8")
