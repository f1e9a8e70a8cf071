# SPDX-License-Identifier: Apache-2.0
"""Image files of a folder: which ones, and a stream of image batches.

Training, references and evaluated images follow one rule: every file counts once, however many
links lead to it, and only regular files are used. Hidden files, and the folders of operating
systems and network storage, are skipped.
"""

import os
import stat
import unicodedata
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from jaxtyping import UInt8
from torch import Tensor

from pippin.images.files import SUFFIXES, read_image
from pippin.system.files import file_kind

UNSUPPORTED = (
    *(".heic", ".heif", ".avif", ".jxl", ".jp2", ".svg", ".eps", ".psd", ".xcf", ".ico", ".tga"),
    *(".dng", ".raw", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".rw2"),
)
"""Suffixes of unsupported image files."""

SYSTEM_NAMES = frozenset(
    name.casefold()
    for name in (
        *("@eaDir", "@tmp", "@Recycle", "@Recently-Snapshot", "@SynoResource", "#recycle"),
        *("#snapshot", "lost+found", "__MACOSX", ".ipynb_checkpoints", ".AppleDouble", ".Trash"),
        *("$RECYCLE.BIN", "System Volume Information", "FOUND.000"),
        *("Thumbs.db", "ehthumbs.db", "desktop.ini"),
    )
)
"""Files and folders that network storage, operating systems and notebooks create; names are
case-insensitive."""

SkipReason = Literal["hidden", "system", "second link", "link upwards", "not a file"]
"""Reason why a file or folder is skipped."""
Problem = Literal["unsupported type", "unreadable name", "named twice"]
"""Reason why an image file is not used."""


@dataclass(frozen=True, kw_only=True)
class Skipped:
    """Skipped file or folder."""

    name: str
    """Path relative to the folder, with forward slashes."""
    reason: SkipReason
    detail: str = ""


@dataclass(frozen=True, kw_only=True)
class FolderImages:
    """Content of a folder and its subfolders. Names have forward slashes and are in Unicode's
    composed form."""

    images: Mapping[str, Path]
    """Name -> path of each image file, by name."""
    problems: tuple[tuple[str, Problem, str], ...]
    """Name, reason and remedy of image files that are not used."""
    others: Mapping[str, Path]
    """Name -> path of files that are not images."""
    skipped: tuple[Skipped, ...]


def find_images(folder: Path) -> FolderImages:
    """Image files below a folder, by name; no file is opened.

    Raises:
        OSError: a folder that cannot be read.
    """
    walk = _Walk(folder)
    images: dict[str, Path] = {}
    others: dict[str, Path] = {}
    problems: list[tuple[str, Problem, str]] = []
    for relative in sorted(walk.files):
        path, suffix = folder / relative, os.path.splitext(relative)[1].lower()
        name = unicodedata.normalize("NFC", relative)
        if suffix not in (*SUFFIXES, *UNSUPPORTED):
            others[name] = path
        elif not is_unicode(relative):
            printable_name = os.fsencode(relative).decode("utf-8", "backslashreplace")
            problems.append(
                (printable_name, "unreadable name", "its name is not UTF-8; rename it")
            )
        elif suffix in UNSUPPORTED:
            problems.append(unsupported_type(name))
        elif name in images:
            advice = (
                "another file's name differs from its own by the form of Unicode only; rename it"
            )
            problems.append((relative, "named twice", advice))
        else:
            images[name] = path
    skipped = sorted(walk.skipped, key=lambda entry: entry.name)
    return FolderImages(
        images=images, problems=tuple(problems), others=others, skipped=tuple(skipped)
    )


def unsupported_type(name: str) -> tuple[str, Problem, str]:
    """Problem of an image file of an unsupported type."""
    return name, "unsupported type", f"save it as one of {', '.join(SUFFIXES)}"


def is_unicode(name: str) -> bool:
    """True if a file name is valid Unicode, without bytes escaped by the file system."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


SHOWN = 5
"""Number of names that a summary lists for each reason."""


def skipped_lines(skipped: Iterable[Skipped]) -> list[str]:
    """Summary of skipped files, one line per reason, with the first names."""
    by_reason: dict[SkipReason, list[Skipped]] = {}
    for entry in skipped:
        by_reason.setdefault(entry.reason, []).append(entry)
    lines = []
    for reason, group in by_reason.items():
        names = ", ".join(
            f"{entry.name} ({entry.detail})" if entry.detail else entry.name
            for entry in group[:SHOWN]
        )
        more = f" and {len(group) - SHOWN} more" if len(group) > SHOWN else ""
        lines.append(f"{len(group)} {_DESCRIPTIONS[reason]}: {names}{more}")
    return lines


_DESCRIPTIONS: Mapping[SkipReason, str] = {
    "hidden": "hidden image files",
    "system": "files or folders of the system or of network storage",
    "second link": "links to what is counted under another name",
    "link upwards": "links to a folder that they lie in",
    "not a file": "names that are no regular files",
}


class _Walk:
    """Walk of a folder: first without following links, then through links to folders, and links
    to files last, so that files in the folder itself keep their own names."""

    def __init__(self, folder: Path) -> None:
        self.files: set[str] = set()
        """Relative paths, as stored by the file system."""
        self.skipped: list[Skipped] = []
        self._folder = folder
        self._root = os.path.realpath(folder)
        self._folders: dict[str, str] = {}
        """Real path -> name of each listed folder."""
        self._folder_links: deque[tuple[str, str]] = deque()
        self._file_links: list[tuple[str, str]] = []
        self._linked: dict[str, str] = {}
        """Real path -> name of files outside the folder that links lead to."""
        self._list("", self._root)
        while self._folder_links:
            self._follow(*self._folder_links.popleft())
        for name, target in sorted(self._file_links):
            self._add_linked_file(name, target)

    def _list(self, name: str, real: str) -> None:
        """List a folder recursively, without following links."""
        pending = [(name, real)]
        links: list[tuple[str, str]] = []
        while pending:
            name, real = pending.pop()
            if real in self._folders:
                self._skip(name, "second link", f"counted as {self._folders[real] or '.'}")
                continue
            self._folders[real] = name
            with os.scandir(self._folder / name) as entries:
                for entry in entries:
                    below = f"{name}/{entry.name}" if name else entry.name
                    if self._is_ignored(below, entry.name):
                        continue
                    if entry.is_symlink():
                        links.append((below, os.path.realpath(entry.path)))
                    elif entry.is_dir(follow_symlinks=False):
                        pending.append((below, os.path.join(real, entry.name)))
                    elif entry.is_file(follow_symlinks=False):
                        self.files.add(below)
                    else:
                        mode = entry.stat(follow_symlinks=False).st_mode
                        self._skip(below, "not a file", file_kind(mode))
        self._sort_links(links)

    def _is_ignored(self, name: str, basename: str) -> bool:
        """True if a file or folder is hidden or belongs to the system."""
        if basename.casefold() in SYSTEM_NAMES:
            self._skip(name, "system")
        elif basename.startswith(".") and basename.lower().endswith(SUFFIXES):
            self._skip(name, "hidden")
        return _is_ignored(basename)

    def _sort_links(self, links: list[tuple[str, str]]) -> None:
        for name, target in sorted(links):
            try:
                mode = os.stat(self._folder / name).st_mode
            except OSError:  # a broken or circular link: reading it raises the error
                self.files.add(name)
                continue
            if stat.S_ISDIR(mode):
                self._folder_links.append((name, target))
            elif stat.S_ISREG(mode):
                self._file_links.append((name, target))
            else:
                self._skip(name, "not a file", f"a link to {file_kind(mode)}")

    def _follow(self, name: str, target: str) -> None:
        """Follow a link to a folder, unless its target was listed or contains the link."""
        link_folder = os.path.realpath((self._folder / name).parent)
        if any(_contains(target, inner) for inner in (link_folder, self._root)):
            self._skip(name, "link upwards", f"leads to {target}")
        else:
            self._list(name, target)

    def _add_linked_file(self, name: str, target: str) -> None:
        """Add a link to a file, unless the file is counted under another name."""
        folder, basename = os.path.split(target)
        counted_name = self._linked.get(target)
        if folder in self._folders and not _is_ignored(basename):
            counted_name = "/".join(filter(None, (self._folders[folder], basename)))
        if counted_name is None:
            self.files.add(name)
            self._linked[target] = name
        else:
            self._skip(name, "second link", f"counted as {counted_name}")

    def _skip(self, name: str, reason: SkipReason, detail: str = "") -> None:
        self.skipped.append(Skipped(name=name, reason=reason, detail=detail))


def _is_ignored(basename: str) -> bool:
    return basename.startswith(".") or basename.casefold() in SYSTEM_NAMES


def _contains(folder: str, inner: str) -> bool:
    """True if a folder is, or contains, another one."""
    return inner == folder or inner.startswith(folder.rstrip("/") + "/")


def folder_images(path: Path | str, batch_size: int = 64) -> Iterator[UInt8[Tensor, "_ 3 _ _"]]:
    """All image files below a folder, in the order of their paths.

    The files are those that training on the folder uses, see :mod:`pippin.images.folder`.
    Consecutive files of equal size form a batch, so a folder of mixed sizes gives smaller batches;
    feature extractors resize each image individually. Files are decoded by
    :func:`pippin.images.files.read_image`.

    Raises:
        ValueError: no such folder, no image in it, or an unreadable file, which is named.
    """
    return image_batches(image_paths(Path(path)), batch_size)


def image_batches(paths: Sequence[Path], batch_size: int) -> Iterator[UInt8[Tensor, "_ 3 _ _"]]:
    """Batches of the given image files in order, one in memory at a time; see
    :func:`folder_images`."""
    pending: list[Tensor] = []
    for file in paths:
        image = read_image(file)
        if pending and (len(pending) == batch_size or pending[0].shape != image.shape):
            yield torch.stack(pending)
            pending = []
        pending.append(image)
    yield torch.stack(pending)


def image_paths(folder: Path) -> list[Path]:
    """Sorted paths of the image files that :func:`pippin.images.folder.find_images` lists.

    Raises:
        ValueError: no such folder, or no image in it.
        OSError: a folder that cannot be read.
    """
    if not folder.is_dir():
        raise ValueError(f"{folder} is not a folder; give a folder of images")
    paths = sorted(find_images(folder).images.values())
    if not paths:
        raise ValueError(
            f"{folder} and its subfolders hold no image; allowed are {', '.join(SUFFIXES)} files"
        )
    return paths
