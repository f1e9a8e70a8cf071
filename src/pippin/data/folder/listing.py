# SPDX-License-Identifier: Apache-2.0
"""Listing of a custom data set's files and classes by name, before any file is read.

There are three layouts: a metadata file; class folders, at any depth below their first level; or
a flat folder, where all images have one class. Without a metadata file, captions may be in text
files beside the images.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from pippin.data.config import ImagesConfig
from pippin.data.folder import caption_files
from pippin.data.folder.caption_files import UnreadableCaptionError, beside, read_captions
from pippin.data.folder.layout import LayoutFacts, layout_facts
from pippin.data.folder.metadata import Metadata, Row, find_metadata, image_name, read_metadata
from pippin.data.folder.metadata_columns import MAIN
from pippin.images.files import SUFFIXES, UnreadableReason
from pippin.images.folder import FolderImages, Problem, find_images, is_unicode, unsupported_type

Layout = Literal["metadata", "class folders", "flat"]

ImageSkipReason = (
    UnreadableReason
    | Problem
    | Literal[
        "unreadable caption",
        "no label",
        "not in the metadata",
        "outside the folder",
        "too small",
    ]
)
"""Reason why an image is skipped."""

UNFINISHED = ".parts/import.json"
"""File in a folder of an import; metadata exists once the import is complete."""
FROM_SHARDS = ".parts/shards.json"
"""File in a folder whose images are encoded from shards; its table of images replaces a listing
once all are (:mod:`pippin.data.folder.image_table`)."""
ONE_CLASS = "picture"
"""Name of the only class of a source without labels."""


class InvalidSourceError(ValueError):
    """Custom data set that cannot be trained on."""


@dataclass(frozen=True, kw_only=True)
class SkippedImage:
    """Image that is skipped."""

    name: str
    reason: ImageSkipReason
    detail: str


@dataclass(frozen=True, kw_only=True)
class Entry:
    """Image of the listing."""

    name: str
    """Path relative to the folder, with forward slashes, in Unicode normal form C."""
    path: Path
    label: str
    written_label: str
    """Label as written in the folder name or metadata: 2.0 for the class 2."""
    captions: Mapping[str, str] = field(default_factory=dict)
    """Kind -> caption of the image."""


@dataclass(kw_only=True)
class Listing:
    """Listing of all files of a folder."""

    layout: Layout
    caption_kinds: tuple[str, ...] = ()
    entries: list[Entry] = field(default_factory=list)
    skipped: list[SkippedImage] = field(default_factory=list)
    texts: dict[str, Path] = field(default_factory=dict)
    """Name -> path of possible caption files."""
    unread_captions: int = 0
    """Number of images with caption files that a metadata file without captions overrides."""
    other_files: Counter[str] = field(default_factory=Counter)
    """Suffix -> number of files that are not images."""
    facts: LayoutFacts = field(default_factory=LayoutFacts)

    def check_layout(self, path: str) -> None:
        """Reject a folder whose splits would become classes.

        Raises:
            InvalidSourceError: the message says what to type.
        """
        if refusal := self.facts.refusal(path):
            raise InvalidSourceError(refusal)

    def skip(self, name: str, reason: ImageSkipReason, detail: str) -> None:
        """Record a skipped image."""
        self.skipped.append(SkippedImage(name=name, reason=reason, detail=detail))


def list_images(config: ImagesConfig) -> Listing:
    """List the images of a folder, sorted by name, with their classes.

    Raises:
        InvalidSourceError: the folder contains no images.
        ValueError: no such folder, or an invalid metadata file.
        OSError: a folder cannot be read.
    """
    if not config.path:
        raise ValueError("name the folder of your images: --data.path FOLDER")
    folder = Path(config.path)
    if not folder.is_dir():
        problem = "a file" if folder.exists() else "not there"
        raise ValueError(f"data.path must be a folder of images; {folder} is {problem}")
    path = find_metadata(folder, config.metadata)
    if path is None and (folder / UNFINISHED).exists():
        raise ValueError(
            f"{folder} is an import that was stopped: run the same `pippin data import` to "
            "finish it"
        )
    if (folder / FROM_SHARDS).exists():
        raise ValueError(
            f"{folder} is being encoded from shards, and has files of a sample of the images: "
            "run the same `pippin data prepare` to finish it; other commands need image files "
            "(`pippin data import`)"
        )
    metadata = read_metadata(path) if path else None
    listing = Listing(layout="metadata" if metadata else "flat")
    files = find_images(folder)
    listing.other_files = Counter(
        Path(name).suffix.lower() or "no suffix" for name in files.others
    )
    listing.texts = _texts(files.others)
    listing.facts = layout_facts(
        files.images,
        files.others,
        has_metadata=metadata is not None,
        near=metadata.near if metadata else {},
        skipped=files.skipped,
    )
    if metadata:
        _by_metadata(listing, metadata, files)
    else:
        _by_folder(listing, files)
    if not listing.entries and not listing.skipped:
        skipped = "".join(f"; skipped: {line}" for line in listing.facts.skipped_lines())
        raise InvalidSourceError(
            f"{folder} and its subfolders hold no image; allowed are {', '.join(SUFFIXES)} "
            f"files{skipped}"
        )
    return listing


def _texts(others: Mapping[str, Path]) -> dict[str, Path]:
    """Possible caption files; suffixes are compared without case."""
    texts = {}
    for name, path in others.items():
        if (suffix := path.suffix.lower()) in caption_files.SUFFIXES:
            texts[name[: -len(suffix)] + suffix] = path
    return texts


def _by_folder(listing: Listing, folder_images: FolderImages) -> None:
    """Take the outermost folder as the class; without folders there is one class."""
    files = folder_images.images
    for name, reason, detail in folder_images.problems:
        listing.skip(name, reason, detail)
    if any("/" in name for name in files):
        listing.layout = "class folders"
    places = beside(files, listing.texts)
    listing.caption_kinds = (MAIN,) if places else ()
    listing.other_files -= Counter(path.suffix.lower() for path in set(places.values()))
    captions = read_captions(places)
    for name in sorted(files):
        label, slash, _ = name.partition("/")
        caption = captions.get(name)
        if listing.layout == "class folders" and not slash:
            listing.skip(name, "no label", "it is beside the class folders, not in one of them")
        elif isinstance(caption, UnreadableCaptionError):
            listing.skip(name, "unreadable caption", str(caption))
        else:
            listing.entries.append(
                Entry(
                    name=name,
                    path=files[name],
                    label=label if slash else ONE_CLASS,
                    written_label=label if slash else ONE_CLASS,
                    captions={MAIN: caption} if caption else {},
                )
            )


def _by_metadata(listing: Listing, metadata: Metadata, folder_images: FolderImages) -> None:
    """Apply the metadata rows; images without a row are skipped."""
    files, unread_types = folder_images.images, []
    for name, reason, detail in folder_images.problems:
        if reason == "unsupported type":
            unread_types.append(name)
        else:
            listing.skip(name, reason, detail)
    listing.caption_kinds = metadata.caption_kinds
    unread = MAIN not in metadata.caption_kinds
    listing.unread_captions = len(beside(files, listing.texts)) if unread else 0
    named: set[str] = set()
    for row in metadata.rows:
        _add_row(listing, row, metadata, files, named)
    for name in sorted({*files, *unread_types} - named):
        listing.skip(name, "not in the metadata", f"no row of {metadata.path.name} names it")
    listing.entries.sort(key=lambda entry: entry.name)


def _add_row(
    listing: Listing, row: Row, metadata: Metadata, files: Mapping[str, Path], named: set[str]
) -> None:
    """Add one row as an entry or a skipped image."""
    name = image_name(row.file_name)
    label = row.label if metadata.has_labels else ONE_CLASS
    skipped: tuple[str, ImageSkipReason, str] | None = None
    if not is_unicode(name) or "\0" in name:
        skipped = repr(name), "unreadable name", f"line {row.line} is not a file name"
    elif name in named:
        skipped = name, "named twice", f"line {row.line} names it again"
    elif name.startswith(("../", "/")) or name in ("..", "."):
        skipped = name, "outside the folder", f"line {row.line} must name a file below it"
    elif Path(name).suffix.lower() not in SUFFIXES:
        skipped = unsupported_type(name)
    elif label is None:
        skipped = name, "no label", f"line {row.line} leaves it empty"
    elif row.problem:
        skipped = name, "unreadable caption", row.problem
    named.add(name)
    if skipped:
        listing.skip(*skipped)
        return
    label = label or ONE_CLASS
    written = row.written_label if metadata.has_labels else None
    path = files.get(name, metadata.path.parent / name)
    listing.entries.append(
        Entry(
            name=name,
            path=path,
            label=label,
            written_label=written or label,
            captions=row.captions,
        )
    )
