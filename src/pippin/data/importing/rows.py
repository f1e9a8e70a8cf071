# SPDX-License-Identifier: Apache-2.0
"""Rows of a shard in any format, and the usual names of table columns and archive members.

The *kind* of a member is the part of its name after the key of its sample, in lower case: ``jpg``
of ``0001.JPG``, ``depth.png`` of ``0001.depth.png``. The *qualifier* is the kind without the
suffix: ``depth``.
"""

import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, NamedTuple, TypeAlias

IMAGES = ("image", "jpg", "jpeg", "png", "webp", "img", "picture", "images", "photo")
CAPTIONS = ("caption", "text", "txt", "prompt", "captions", "description", "alt_text", "cap")
LABELS = (
    *("label", "labels", "cls", "class", "class_name", "fine_label"),
    *("category", "target", "species"),
)
"""Default column names, in order of preference."""
UNNAMED_CAPTIONS = ("*.caption", "*.txt")
"""Fallback kinds of captions with qualifiers."""
INNER = "json."
"""Prefix of names of entries in a WebDataset's json."""
ANY = "*"
MAX_LISTED = 40
"""Maximum number of names in a message."""

IMAGE_SUFFIXES = (
    *("jpg", "jpeg", "png", "webp", "jpe", "jfif", "image", "img", "picture"),
    *("gif", "bmp", "tif", "tiff", "avif", "heic", "heif", "jxl", "jp2", "svg", "eps"),
    *("psd", "xcf", "ico", "tga", "dng", "raw", "cr2", "cr3", "nef", "arw", "orf", "rw2"),
)
"""Suffixes of images, in order of preference. Unsupported formats are included, so that their rows
are reported."""
TEXT_SUFFIXES = ("txt", "caption", "text", "cap", "captions", "prompt")
USUAL_QUALIFIERS = ("image", "img", "picture", "photo", "rgb", "color", "colour")
"""Qualifiers of the image itself, as opposed to depth maps, masks and the like."""
_CONDITIONING = re.compile(
    r"(?<![a-z])("
    r"depth|disparity|mask|masks|seg|segmentation|semantic|instance|panoptic|canny|edge|edges"
    r"|normal|normals|pose|openpose|keypoints|cond|conditioning|condition|control|controlnet|hint"
    r"|guide|line|lineart|softedge|hed|mlsd|scribble|sketch|alpha|matte|flow|heatmap|thumbnail"
    r"|thumb|preview|reference|source|input|before"
    r")(?![a-z])"
)
"""Words in names of conditioning images."""


def suffix_of_kind(kind: str) -> str:
    """Last part of a kind."""
    return kind.rpartition(".")[2]


def is_image(kind: str) -> bool:
    """True if members of a kind are images, by their suffix."""
    return suffix_of_kind(kind) in IMAGE_SUFFIXES


def is_conditioning(name: str) -> bool:
    """True if a column or qualifier names a mask, a depth map or the like."""
    return _CONDITIONING.search(name.lower()) is not None


def is_known_qualifier(word: str) -> bool:
    """True if a part of a name is a usual qualifier."""
    usual = (*USUAL_QUALIFIERS, *CAPTIONS, *LABELS, *IMAGE_SUFFIXES, *TEXT_SUFFIXES, "json")
    return word in usual or is_conditioning(word)


def find_name(name: str, names: Collection[str]) -> str | None:
    """Match of a name among several, without case and outer spaces; an exact match is first."""
    if name in names:
        return name
    plain = _plain(name)
    return next((name for name in names if _plain(name) == plain), None)


@lru_cache(4096)  # names recur in every row
def _plain(name: str) -> str:
    return name.strip().casefold()


def printable(name: str) -> str:
    """Name from a source, made safe and short for a message."""
    plain = "".join(char if char.isprintable() else "?" for char in name)
    return plain.encode("utf-8", "backslashreplace").decode()[:80]


def join_names(names: Iterable[str]) -> str:
    """Names from a source for a message, at most ``MAX_LISTED``."""
    names = list(names)
    more = f" and {len(names) - MAX_LISTED} more" if len(names) > MAX_LISTED else ""
    return ", ".join(map(printable, names[:MAX_LISTED])) + more


def match_kind(name: str, kinds: Iterable[str]) -> str | None:
    """Match a name against the kinds of a sample's members.

    Args:
        wanted: a kind; ``*``, any image but masks and the like; ``NAME.*``, an image of that
            qualifier; ``*.SUFFIX``, any qualifier but a label's.
        kinds: kinds of a sample, in order.
    """
    kinds = tuple(kinds)
    qualifier, _, suffix = name.rpartition(".")
    if name == ANY:
        images = [kind for kind in kinds if is_image(kind) and not is_conditioning(kind)]
        return _preferred(images)
    if suffix == ANY:
        return _preferred([k for k in kinds if is_image(k) and k.rpartition(".")[0] == qualifier])
    if qualifier == ANY:
        ending = f".{suffix}"
        labels = {f"{name}{ending}" for name in LABELS}
        return next((k for k in kinds if k.endswith(ending) and k not in labels), None)
    return name if name in kinds else None


def _preferred(images: list[str]) -> str | None:
    def order(kind: str) -> tuple[int, int]:
        return kind.count("."), IMAGE_SUFFIXES.index(suffix_of_kind(kind))

    return min(images, key=order, default=None)


BinaryFile: TypeAlias = Any
"""Open binary file: a Python file, or a file of ``fsspec``."""


class Row(NamedTuple):
    """One row of a table, or one sample of an archive."""

    cells: Mapping[str, Any]
    """Column or kind of member -> value; archive members are :class:`FileSlice`."""
    name: str = ""
    """Name in the source, for messages."""
    folder: str = ""
    """Folder of the sample inside an archive."""


@dataclass(frozen=True, kw_only=True)
class ShardSchema:
    """Columns of a shard, read from its beginning."""

    names: tuple[str, ...]
    """Names of columns or kinds of members; nested entries as ``COLUMN.ENTRY``."""
    images: tuple[str, ...] = ()
    """Columns declared as images."""
    classes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Column -> class names, for columns declared as class ids."""
    lists: frozenset[str] = frozenset()
    """Columns of lists."""
    dictionaries: frozenset[str] = frozenset()
    """Columns of dictionaries."""
    samples: tuple[tuple[str, ...], ...] | None = None
    """Kinds of members of each sample of an archive."""
    is_complete: bool = True
    """False if the shard may have other columns."""


@dataclass(kw_only=True)
class OpenShard:
    """Shard opened for reading."""

    rows: Iterator[Row]
    columns: tuple[str, ...] | None = None
    """All columns of a table; None = an archive, whose samples each have their own kinds."""
    classes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    unread: Counter[str] = field(default_factory=Counter)
    """Values outside any row -> count; complete after all rows are read."""
    damage: str = ""
    """Fault at which the rows of a damaged archive end; empty = they are complete."""


@dataclass(frozen=True)
class FileSlice:
    """Byte range of an open file, read on demand."""

    file: BinaryFile
    start: int
    num_bytes: int

    def read(self) -> bytes:
        """Read the range.

        Raises:
            EOFError: the file is too short.
        """
        self.file.seek(self.start)
        content = self.file.read(self.num_bytes)
        if len(content) < self.num_bytes:
            raise EOFError(f"the file ends at byte {self.start + len(content)}")
        return content
