# SPDX-License-Identifier: Apache-2.0
"""Which files a folder of own pictures has, and their classes: by name, before any is read.

Three layouts: a metadata file says it; or each folder inside is a class, whatever lies deeper in
it; or the folder is flat, and then all pictures are of one class. Without a metadata file,
captions may lie in text files beside the pictures.
"""

import os
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from pippin.data import caption_files
from pippin.data.caption_files import UnreadableCaptionError, beside, read_captions
from pippin.data.config import ImagesConfig
from pippin.data.metadata import MAIN, Metadata, Row, find_metadata, picture_name, read_metadata
from pippin.image_files import SUFFIXES, Reason

Layout = Literal["metadata", "class folders", "flat"]

LossReason = (
    Reason
    | Literal[
        "unsupported type",
        "unreadable name",
        "unreadable caption",
        "no label",
        "not in the metadata",
        "named twice",
        "outside the folder",
        "too small",
        "too large",
    ]
)
"""Why a picture of the source is not used."""

UNSUPPORTED = (
    *(".heic", ".heif", ".avif", ".jxl", ".jp2", ".svg", ".eps", ".psd", ".xcf", ".ico", ".tga"),
    *(".dng", ".raw", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".rw2"),
)
"""Picture files that are not read: they are lost, where other files are passed over."""

UNFINISHED = ".parts/import.json"
"""In a folder that is being imported, beside its metadata once all is there."""
ONE_CLASS = "picture"
"""The name of the only class of a source without labels."""


class SourceRefusedError(ValueError):
    """A source of own pictures that nothing can be trained on."""


@dataclass(frozen=True, kw_only=True)
class LostFile:
    """A picture that is not used."""

    name: str
    reason: LossReason
    detail: str


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A picture that the source names."""

    name: str
    """Below the folder, with forward slashes, in Unicode's composed form."""
    path: Path
    label: str
    captions: Mapping[str, str] = field(default_factory=dict)
    """Kind -> caption, of those that the picture has."""


@dataclass(kw_only=True)
class Listing:
    """All files of a folder."""

    layout: Layout
    caption_kinds: tuple[str, ...] = ()
    entries: list[Entry] = field(default_factory=list)
    lost: list[LostFile] = field(default_factory=list)
    texts: dict[str, Path] = field(default_factory=dict)
    """Name -> path of files that may hold a picture's caption."""
    unread_captions: int = 0
    """Pictures that have a caption's file, while a metadata file without captions counts."""
    passed_over: Counter[str] = field(default_factory=Counter)
    """Suffix -> how many files that are no pictures."""

    def lose(self, name: str, reason: LossReason, detail: str) -> None:
        """Record a picture that is not used."""
        self.lost.append(LostFile(name=name, reason=reason, detail=detail))


def list_pictures(config: ImagesConfig) -> Listing:
    """The pictures of a folder, sorted by name, with their classes.

    Raises:
        SourceRefusedError: the folder holds no picture.
        ValueError: no such folder, or a metadata file that cannot be used.
        OSError: a folder that cannot be read.
    """
    if not config.path:
        raise ValueError("say where your pictures are: --data.path FOLDER")
    folder = Path(config.path)
    if not folder.is_dir():
        what = "a file" if folder.exists() else "not there"
        raise ValueError(f"data.path must be a folder of pictures; {folder} is {what}")
    place = find_metadata(folder, config.metadata)
    if place is None and (folder / UNFINISHED).exists():
        raise ValueError(
            f"{folder} is an import that was stopped: the same `pippin data import` finishes it"
        )
    metadata = read_metadata(place) if place else None
    listing = Listing(layout="metadata" if metadata else "flat")
    files = _pictures(folder, listing)
    if metadata:
        _by_metadata(listing, metadata, files)
    else:
        _by_folder(listing, files)
    if not listing.entries and not listing.lost:
        raise SourceRefusedError(
            f"{folder} and its subfolders hold no picture; allowed are {', '.join(SUFFIXES)} files"
        )
    return listing


def _pictures(folder: Path, listing: Listing) -> dict[str, Path]:
    """Name and path of every file that can be read as a picture; the others go to the listing."""
    found: dict[str, Path] = {}
    for path in _files(folder):
        suffix, relative = path.suffix.lower(), path.relative_to(folder).as_posix()
        name = unicodedata.normalize("NFC", relative)
        if suffix not in (*SUFFIXES, *UNSUPPORTED):
            listing.passed_over[suffix or "no suffix"] += 1
            if suffix in caption_files.SUFFIXES:
                listing.texts[name.removesuffix(path.suffix) + suffix] = path
        elif not _is_unicode(relative):
            shown = os.fsencode(relative).decode("utf-8", "backslashreplace")
            listing.lose(shown, "unreadable name", "its name is not UTF-8; rename it")
        elif suffix in UNSUPPORTED and listing.layout != "metadata":
            listing.lose(*_unsupported(relative))
        elif name in found:
            why = "another file's name differs from its own by the form of Unicode only; rename it"
            listing.lose(relative, "named twice", why)
        else:
            found[name] = path
    return found


def _files(folder: Path) -> Iterator[Path]:
    """All files below a folder, links followed; hidden ones are passed over."""

    def stop(error: OSError) -> None:
        raise error

    for root, folders, names in os.walk(folder, followlinks=True, onerror=stop):
        here = Path(root)
        folders[:] = sorted(f for f in folders if f[0] != "." and not _leads_up(here / f))
        yield from (here / name for name in sorted(names) if name[0] != ".")


def _leads_up(path: Path) -> bool:
    """Whether a link to a folder leads back to one that it lies in."""
    return path.is_symlink() and path.resolve() in (path.parent / "_").resolve().parents


def _is_unicode(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _unsupported(name: str) -> tuple[str, LossReason, str]:
    return name, "unsupported type", f"save it as one of {', '.join(SUFFIXES)}"


def _by_folder(listing: Listing, files: Mapping[str, Path]) -> None:
    """The first folder of each name is its class; without any folder there is one class."""
    if any("/" in name for name in files):
        listing.layout = "class folders"
    places = beside(files, listing.texts)
    listing.caption_kinds = (MAIN,) if places else ()
    listing.passed_over -= Counter(path.suffix.lower() for path in set(places.values()))
    captions = read_captions(places)
    for name in sorted(files):
        label, slash, _ = name.partition("/")
        caption = captions.get(name)
        if listing.layout == "class folders" and not slash:
            listing.lose(name, "no label", "it lies beside the class folders, in none of them")
        elif isinstance(caption, UnreadableCaptionError):
            listing.lose(name, "unreadable caption", str(caption))
        else:
            listing.entries.append(
                Entry(
                    name=name,
                    path=files[name],
                    label=label if slash else ONE_CLASS,
                    captions={MAIN: caption} if caption else {},
                )
            )


def _by_metadata(listing: Listing, metadata: Metadata, files: Mapping[str, Path]) -> None:
    """What the rows say; pictures that no row names are lost."""
    listing.caption_kinds = metadata.caption_kinds
    unread = MAIN not in metadata.caption_kinds
    listing.unread_captions = len(beside(files, listing.texts)) if unread else 0
    named: set[str] = set()
    for row in metadata.rows:
        _add_row(listing, row, metadata, files, named)
    for name in sorted(files.keys() - named):
        listing.lose(name, "not in the metadata", f"no row of {metadata.path.name} names it")
    listing.entries.sort(key=lambda entry: entry.name)


def _add_row(
    listing: Listing, row: Row, metadata: Metadata, files: Mapping[str, Path], named: set[str]
) -> None:
    """One row: an entry, or a lost file."""
    name = picture_name(row.file_name)
    label = row.label if metadata.has_labels else ONE_CLASS
    loss: tuple[str, LossReason, str] | None = None
    if not _is_unicode(name) or "\0" in name:
        loss = repr(name), "unreadable name", f"line {row.line} gives no name of a file"
    elif name in named:
        loss = name, "named twice", f"line {row.line} names it again"
    elif name.startswith(("../", "/")) or name in ("..", "."):
        loss = name, "outside the folder", f"line {row.line} must name a file below it"
    elif Path(name).suffix.lower() not in SUFFIXES:
        loss = _unsupported(name)
    elif label is None:
        loss = name, "no label", f"line {row.line} leaves it empty"
    named.add(name)
    if loss:
        listing.lose(*loss)
    else:
        path = files.get(name, metadata.path.parent / name)
        listing.entries.append(
            Entry(name=name, path=path, label=label or ONE_CLASS, captions=row.captions)
        )
