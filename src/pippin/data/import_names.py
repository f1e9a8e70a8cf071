# SPDX-License-Identifier: Apache-2.0
"""Usual names of columns of tables and of members of archives, and what each holds.

A member's *kind* is what follows the key of its sample, in lower case: ``jpg`` of ``0001.JPG``,
``depth.png`` of ``0001.depth.png``. Its *qualifier* is the kind without the suffix: ``depth``.
"""

import re
from collections.abc import Collection, Iterable
from functools import lru_cache

IMAGES = ("image", "jpg", "jpeg", "png", "webp", "img", "picture", "images", "photo")
CAPTIONS = ("caption", "text", "txt", "prompt", "captions", "description", "alt_text", "cap")
LABELS = (
    *("label", "labels", "cls", "class", "class_name", "fine_label"),
    *("category", "target", "species"),
)
"""Columns that are looked for, in this order, where none is named."""
UNNAMED_CAPTIONS = ("*.caption", "*.txt")
"""Kinds of captions that have qualifiers, where no usual one is there."""
INNER = "json."
"""Begins the name of an entry of a WebDataset's json."""
ANY = "*"
MOST_LISTED = 40
"""Names that a message lists."""

IMAGE_SUFFIXES = (
    *("jpg", "jpeg", "png", "webp", "jpe", "jfif", "image", "img", "picture"),
    *("gif", "bmp", "tif", "tiff", "avif", "heic", "heif", "jxl", "jp2", "svg", "eps"),
    *("psd", "xcf", "ico", "tga", "dng", "raw", "cr2", "cr3", "nef", "arw", "orf", "rw2"),
)
"""Last parts of names of images, by preference where one sample has several. Those that cannot be
read are among them: their rows are named."""
TEXT_SUFFIXES = ("txt", "caption", "text", "cap", "captions", "prompt")
USUAL_QUALIFIERS = ("image", "img", "picture", "photo", "rgb", "color", "colour")
"""Qualifiers of the image itself, where others say what is shown of it."""
_CONDITIONING = re.compile(
    r"(?<![a-z])("
    r"depth|disparity|mask|masks|seg|segmentation|semantic|instance|panoptic|canny|edge|edges"
    r"|normal|normals|pose|openpose|keypoints|cond|conditioning|condition|control|controlnet|hint"
    r"|guide|line|lineart|softedge|hed|mlsd|scribble|sketch|alpha|matte|flow|heatmap|thumbnail"
    r"|thumb|preview|reference|source|input|before"
    r")(?![a-z])"
)
"""Words of names of images that go with another one."""


def suffix_of_kind(kind: str) -> str:
    """The last part of a kind."""
    return kind.rpartition(".")[2]


def is_image(kind: str) -> bool:
    """Whether members of a kind are images, by their name."""
    return suffix_of_kind(kind) in IMAGE_SUFFIXES


def is_conditioning(name: str) -> bool:
    """Whether a column or qualifier names a mask, a depth map or the like."""
    return _CONDITIONING.search(name.lower()) is not None


def is_known_qualifier(word: str) -> bool:
    """Whether a part of a name says what of a sample a member holds."""
    usual = (*USUAL_QUALIFIERS, *CAPTIONS, *LABELS, *IMAGE_SUFFIXES, *TEXT_SUFFIXES, "json")
    return word in usual or is_conditioning(word)


def find_name(wanted: str, names: Collection[str]) -> str | None:
    """The name among several that is the wanted one, or differs by case and outer spaces only."""
    if wanted in names:
        return wanted
    plain = _plain(wanted)
    return next((name for name in names if _plain(name) == plain), None)


@lru_cache(4096)  # names recur in every row
def _plain(name: str) -> str:
    return name.strip().casefold()


def shown(name: str) -> str:
    """A name out of a source, safe and short enough for a message."""
    plain = "".join(char if char.isprintable() else "?" for char in name)
    return plain.encode("utf-8", "backslashreplace").decode()[:80]


def listed(names: Iterable[str]) -> str:
    """Names out of a source for a message, at most ``MOST_LISTED``."""
    names = list(names)
    more = f" and {len(names) - MOST_LISTED} more" if len(names) > MOST_LISTED else ""
    return ", ".join(map(shown, names[:MOST_LISTED])) + more


def match_kind(wanted: str, kinds: Iterable[str]) -> str | None:
    """The kind of a sample's member that a name stands for.

    Args:
        wanted: a kind; ``*``, any image but masks and the like; ``NAME.*``, an image of that
            qualifier; ``*.SUFFIX``, any qualifier but a label's.
        kinds: those of a sample, in their order.
    """
    kinds = tuple(kinds)
    qualifier, _, suffix = wanted.rpartition(".")
    if wanted == ANY:
        images = [kind for kind in kinds if is_image(kind) and not is_conditioning(kind)]
        return _preferred(images)
    if suffix == ANY:
        return _preferred([k for k in kinds if is_image(k) and k.rpartition(".")[0] == qualifier])
    if qualifier == ANY:
        ending = f".{suffix}"
        labels = {f"{name}{ending}" for name in LABELS}
        return next((k for k in kinds if k.endswith(ending) and k not in labels), None)
    return wanted if wanted in kinds else None


def _preferred(images: list[str]) -> str | None:
    def order(kind: str) -> tuple[int, int]:
        return kind.count("."), IMAGE_SUFFIXES.index(suffix_of_kind(kind))

    return min(images, key=order, default=None)
