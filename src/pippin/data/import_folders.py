# SPDX-License-Identifier: Apache-2.0
"""Folders inside archives as classes, as in a folder of class folders.

What is no class is left off first: a folder called as its archive, folders called as splits, and
one that all images lie in.
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from pippin.data.cleaning import NotTextError, clean_label
from pippin.data.import_shards import Part
from pippin.data.layout import SPLITS


class FolderClasses(NamedTuple):
    """What the folders inside archives stand for."""

    names: Mapping[str, str | None]
    """Folder without what :func:`inner_folder` leaves off -> class; empty where they are none."""


def find_classes(parts: Iterable[tuple[str, Part]], *, asked: bool) -> FolderClasses | None:
    """The classes of the folders of an import.

    Args:
        parts: the name of each archive and what came out of it.
        asked: whether the user asked for folders; else they are taken only where no row has
            another class and every row lies in a folder.

    Returns:
        None where folders tell nothing: there is one at most, or rows have other classes.
    """
    folders: set[str] = set()
    num_outside = 0
    for stem, part in parts:
        has_labels = any("label" in row for row in part.rows)
        if part.folders is None or (has_labels and not asked):
            return None
        here = [inner_folder(folder, stem) for folder in part.folders]
        num_outside += here.count("")
        folders.update(here)
    folders.discard("")
    names = _names(folders, asked=asked) if asked or not num_outside else {}
    if len(folders) < 2 and not names:
        return None
    return FolderClasses(names)


def inner_folder(folder: str, stem: str) -> str:
    """A folder without that which is called as its archive."""
    first, _, rest = folder.partition("/")
    return rest if stem and first == stem else folder


def _names(folders: set[str], *, asked: bool) -> dict[str, str | None]:
    """Folder -> class; empty where they tell none apart."""
    paths = {folder: folder.split("/") for folder in folders}
    while paths:
        firsts = {path[0] if path else "" for path in paths.values()}
        if "" in firsts and not asked:
            return {}
        are_splits = {first.lower() for first in firsts} <= SPLITS
        is_last = asked and all(len(path) < 2 for path in paths.values())
        if is_last or (len(firsts) > 1 and not are_splits):
            return {folder: _label(path[0]) if path else None for folder, path in paths.items()}
        paths = {folder: path[1:] for folder, path in paths.items()}
    return {}


def _label(name: str) -> str | None:
    try:
        return clean_label(name)
    except NotTextError:  # a name of bytes that are not UTF-8
        return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
