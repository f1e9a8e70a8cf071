# SPDX-License-Identifier: Apache-2.0
"""Classes from folders inside archives, as in a folder of class folders.

Folders that are not classes are removed first: a folder with the archive's name, folders with
names of splits, and a folder that contains all images.
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from pippin.data.cleaning import NotTextError, clean_label
from pippin.data.import_shards import Part
from pippin.data.layout import SPLITS


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
