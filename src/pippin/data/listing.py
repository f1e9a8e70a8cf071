# SPDX-License-Identifier: Apache-2.0
"""Which files a folder of own pictures has, and their classes: by name, before any is read.

Three layouts: a metadata file says it; or each folder inside is a class, whatever lies deeper in
it; or the folder is flat, and then all pictures are of one class. Without a metadata file,
captions may lie in text files beside the pictures.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from pippin.data import caption_files
from pippin.data.caption_files import UnreadableCaptionError, beside, read_captions
from pippin.data.config import ImagesConfig
from pippin.data.layout import LayoutFacts, layout_facts
from pippin.data.metadata import Metadata, Row, find_metadata, picture_name, read_metadata
from pippin.data.metadata_columns import MAIN
from pippin.image_files import SUFFIXES, Reason
from pippin.image_folder import FolderImages, Problem, find_images, is_unicode, unsupported

Layout = Literal["metadata", "class folders", "flat"]

LossReason = (
    Reason
    | Problem
    | Literal[
        "unreadable caption",
        "no label",
        "not in the metadata",
        "outside the folder",
        "too small",
    ]
)
"""Why a picture of the source is not used."""

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
    written_label: str
    """As the folder or the metadata has it: 2.0 of the class 2."""
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
    facts: LayoutFacts = field(default_factory=LayoutFacts)

    def check_layout(self, path: str) -> None:
        """Refuse a folder of which each split would become a class.

        Raises:
            SourceRefusedError: it says what to type.
        """
        if refusal := self.facts.refusal(path):
            raise SourceRefusedError(refusal)

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
    found = find_images(folder)
    listing.passed_over = Counter(
        Path(name).suffix.lower() or "no suffix" for name in found.others
    )
    listing.texts = _texts(found.others)
    listing.facts = layout_facts(
        found.images,
        found.others,
        has_metadata=metadata is not None,
        near=metadata.near if metadata else {},
        skipped=found.skipped,
    )
    if metadata:
        _by_metadata(listing, metadata, found)
    else:
        _by_folder(listing, found)
    if not listing.entries and not listing.lost:
        skipped = "".join(f"; skipped: {line}" for line in listing.facts.skipped_lines())
        raise SourceRefusedError(
            f"{folder} and its subfolders hold no picture; allowed are {', '.join(SUFFIXES)} "
            f"files{skipped}"
        )
    return listing


def _texts(others: Mapping[str, Path]) -> dict[str, Path]:
    """Files that may hold captions; of suffixes, upper and lower case count alike."""
    found = {}
    for name, path in others.items():
        if (suffix := path.suffix.lower()) in caption_files.SUFFIXES:
            found[name[: -len(suffix)] + suffix] = path
    return found


def _by_folder(listing: Listing, found: FolderImages) -> None:
    """The first folder of each name is its class; without any folder there is one class."""
    files = found.images
    for name, reason, detail in found.problems:
        listing.lose(name, reason, detail)
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
                    written_label=label if slash else ONE_CLASS,
                    captions={MAIN: caption} if caption else {},
                )
            )


def _by_metadata(listing: Listing, metadata: Metadata, found: FolderImages) -> None:
    """What the rows say; pictures that no row names are lost."""
    files, unread_types = found.images, []
    for name, reason, detail in found.problems:
        if reason == "unsupported type":
            unread_types.append(name)
        else:
            listing.lose(name, reason, detail)
    listing.caption_kinds = metadata.caption_kinds
    unread = MAIN not in metadata.caption_kinds
    listing.unread_captions = len(beside(files, listing.texts)) if unread else 0
    named: set[str] = set()
    for row in metadata.rows:
        _add_row(listing, row, metadata, files, named)
    for name in sorted({*files, *unread_types} - named):
        listing.lose(name, "not in the metadata", f"no row of {metadata.path.name} names it")
    listing.entries.sort(key=lambda entry: entry.name)


def _add_row(
    listing: Listing, row: Row, metadata: Metadata, files: Mapping[str, Path], named: set[str]
) -> None:
    """One row: an entry, or a lost file."""
    name = picture_name(row.file_name)
    label = row.label if metadata.has_labels else ONE_CLASS
    loss: tuple[str, LossReason, str] | None = None
    if not is_unicode(name) or "\0" in name:
        loss = repr(name), "unreadable name", f"line {row.line} gives no name of a file"
    elif name in named:
        loss = name, "named twice", f"line {row.line} names it again"
    elif name.startswith(("../", "/")) or name in ("..", "."):
        loss = name, "outside the folder", f"line {row.line} must name a file below it"
    elif Path(name).suffix.lower() not in SUFFIXES:
        loss = unsupported(name)
    elif label is None:
        loss = name, "no label", f"line {row.line} leaves it empty"
    elif row.problem:
        loss = name, "unreadable caption", row.problem
    named.add(name)
    if loss:
        listing.lose(*loss)
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
