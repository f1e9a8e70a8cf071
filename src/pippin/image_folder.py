# SPDX-License-Identifier: Apache-2.0
"""Which image files a folder has: one rule for training, references and images to be measured.

Every real file counts once, however many links lead to it, and nothing but regular files is
looked at. Hidden files, and the folders of operating systems and network storage, are skipped.
"""

import os
import stat
import unicodedata
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pippin.image_files import SUFFIXES
from pippin.system.regular import file_kind

UNSUPPORTED = (
    *(".heic", ".heif", ".avif", ".jxl", ".jp2", ".svg", ".eps", ".psd", ".xcf", ".ico", ".tga"),
    *(".dng", ".raw", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".rw2"),
)
"""Suffixes of image files that are not read."""

SYSTEM_NAMES = frozenset(
    name.casefold()
    for name in (
        *("@eaDir", "@tmp", "@Recycle", "@Recently-Snapshot", "@SynoResource", "#recycle"),
        *("#snapshot", "lost+found", "__MACOSX", ".ipynb_checkpoints", ".AppleDouble", ".Trash"),
        *("$RECYCLE.BIN", "System Volume Information", "FOUND.000"),
        *("Thumbs.db", "ehthumbs.db", "desktop.ini"),
    )
)
"""Files and folders that network storage, operating systems and notebooks make by themselves;
upper and lower case count alike."""

SkipReason = Literal["hidden", "system", "second link", "link upwards", "not a file"]
"""Why a file or folder is not looked at."""
Problem = Literal["unsupported type", "unreadable name", "named twice"]
"""Why an image file is not read."""


@dataclass(frozen=True, kw_only=True)
class Skipped:
    """A file or folder that is not looked at."""

    name: str
    """Below the folder, with forward slashes."""
    reason: SkipReason
    detail: str = ""


@dataclass(frozen=True, kw_only=True)
class FolderImages:
    """What a folder and its subfolders hold. Names have forward slashes and are in Unicode's
    composed form."""

    images: Mapping[str, Path]
    """Name -> path of each image file, by name."""
    problems: tuple[tuple[str, Problem, str], ...]
    """Name, reason and what to do, of image files that are not read."""
    others: Mapping[str, Path]
    """Name -> path of files that are no images."""
    skipped: tuple[Skipped, ...]


def find_images(folder: Path) -> FolderImages:
    """The image files below a folder, by their names; none is opened.

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
            shown = os.fsencode(relative).decode("utf-8", "backslashreplace")
            problems.append((shown, "unreadable name", "its name is not UTF-8; rename it"))
        elif suffix in UNSUPPORTED:
            problems.append(unsupported(name))
        elif name in images:
            why = "another file's name differs from its own by the form of Unicode only; rename it"
            problems.append((relative, "named twice", why))
        else:
            images[name] = path
    skipped = sorted(walk.skipped, key=lambda one: one.name)
    return FolderImages(
        images=images, problems=tuple(problems), others=others, skipped=tuple(skipped)
    )


def unsupported(name: str) -> tuple[str, Problem, str]:
    """An image file of a type that is not read."""
    return name, "unsupported type", f"save it as one of {', '.join(SUFFIXES)}"


def is_unicode(name: str) -> bool:
    """Whether a name is text, and not bytes that the file system keeps beside it."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def skipped_lines(skipped: Iterable[Skipped], shown: int = 5) -> list[str]:
    """What was skipped, a line for each reason, with the first names."""
    by_reason: dict[SkipReason, list[Skipped]] = {}
    for one in skipped:
        by_reason.setdefault(one.reason, []).append(one)
    lines = []
    for reason, group in by_reason.items():
        names = ", ".join(
            f"{one.name} ({one.detail})" if one.detail else one.name for one in group[:shown]
        )
        more = f" and {len(group) - shown} more" if len(group) > shown else ""
        lines.append(f"{len(group)} {_WORDS[reason]}: {names}{more}")
    return lines


_WORDS: Mapping[SkipReason, str] = {
    "hidden": "hidden image files",
    "system": "files or folders of the system or of network storage",
    "second link": "links to what is counted under another name",
    "link upwards": "links to a folder that they lie in",
    "not a file": "names that are no regular files",
}


class _Walk:
    """Folders are listed first without following links, then through links to folders, and links
    to files come last: so what lies in the folder itself keeps its own name."""

    def __init__(self, folder: Path) -> None:
        self.files: set[str] = set()
        """Names below the folder, as the file system has them."""
        self.skipped: list[Skipped] = []
        self._folder = folder
        self._root = os.path.realpath(folder)
        self._folders: dict[str, str] = {}
        """Real path -> name, of each folder that was listed."""
        self._folder_links: deque[tuple[str, str]] = deque()
        self._file_links: list[tuple[str, str]] = []
        self._linked: dict[str, str] = {}
        """Real path -> name, of files that only links lead to."""
        self._list("", self._root)
        while self._folder_links:
            self._follow(*self._folder_links.popleft())
        for name, target in sorted(self._file_links):
            self._take(name, target)

    def _list(self, name: str, real: str) -> None:
        """A folder and all in it that are no links."""
        waiting = [(name, real)]
        links: list[tuple[str, str]] = []
        while waiting:
            name, real = waiting.pop()
            if real in self._folders:
                self._skip(name, "second link", f"counted as {self._folders[real] or '.'}")
                continue
            self._folders[real] = name
            with os.scandir(self._folder / name) as entries:
                for entry in entries:
                    below = f"{name}/{entry.name}" if name else entry.name
                    if self._is_passed_over(below, entry.name):
                        continue
                    if entry.is_symlink():
                        links.append((below, os.path.realpath(entry.path)))
                    elif entry.is_dir(follow_symlinks=False):
                        waiting.append((below, os.path.join(real, entry.name)))
                    elif entry.is_file(follow_symlinks=False):
                        self.files.add(below)
                    else:
                        mode = entry.stat(follow_symlinks=False).st_mode
                        self._skip(below, "not a file", file_kind(mode))
        self._sort_links(links)

    def _is_passed_over(self, name: str, own: str) -> bool:
        """Hidden, or of the system."""
        if own.casefold() in SYSTEM_NAMES:
            self._skip(name, "system")
        elif own.startswith(".") and own.lower().endswith(SUFFIXES):
            self._skip(name, "hidden")
        return _is_passed_over(own)

    def _sort_links(self, links: list[tuple[str, str]]) -> None:
        for name, target in sorted(links):
            try:
                mode = os.stat(self._folder / name).st_mode
            except OSError:  # it leads nowhere, or in a circle: whoever reads it says so
                self.files.add(name)
                continue
            if stat.S_ISDIR(mode):
                self._folder_links.append((name, target))
            elif stat.S_ISREG(mode):
                self._file_links.append((name, target))
            else:
                self._skip(name, "not a file", f"a link to {file_kind(mode)}")

    def _follow(self, name: str, target: str) -> None:
        """A link to a folder, unless what it leads to was listed or holds the link itself."""
        place = os.path.realpath((self._folder / name).parent)
        if any(_holds(target, inner) for inner in (place, self._root)):
            self._skip(name, "link upwards", f"leads to {target}")
        else:
            self._list(name, target)

    def _take(self, name: str, target: str) -> None:
        """A link to a file, unless the file is counted under another name."""
        folder, own = os.path.split(target)
        other = self._linked.get(target)
        if folder in self._folders and not _is_passed_over(own):
            other = "/".join(filter(None, (self._folders[folder], own)))
        if other is None:
            self.files.add(name)
            self._linked[target] = name
        else:
            self._skip(name, "second link", f"counted as {other}")

    def _skip(self, name: str, reason: SkipReason, detail: str = "") -> None:
        self.skipped.append(Skipped(name=name, reason=reason, detail=detail))


def _is_passed_over(own: str) -> bool:
    return own.startswith(".") or own.casefold() in SYSTEM_NAMES


def _holds(folder: str, inner: str) -> bool:
    """Whether a folder is, or lies around, another one."""
    return inner == folder or inner.startswith(folder.rstrip("/") + "/")
