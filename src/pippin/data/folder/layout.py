# SPDX-License-Identifier: Apache-2.0
"""Unusual folder layouts: splits that look like classes, and tables that are not read.

The checks use names only. Layouts that would train the wrong classes are errors at the start of a
training or a cache build. Others are warnings, there and in ``pippin data check``.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from pippin.data.folder.metadata import NAMES, UNREAD
from pippin.data.folder.metadata_columns import CAPTIONS, LABEL, Role
from pippin.images.folder import Skipped, skipped_lines

SPLITS = frozenset(
    ("train", "training", "val", "valid", "validation", "dev", "eval", "test", "testing")
)
"""Names of folders that hold a split, in lower case."""
TABLES = (".csv", ".tsv", ".jsonl", ".parquet")
"""Suffixes of files that may hold labels or captions."""
MAX_LISTED = 5
"""Maximum number of names in a message."""


@dataclass(frozen=True, kw_only=True)
class LayoutFacts:
    """Properties of a folder that a user may not expect."""

    splits: tuple[str, ...] = ()
    """Outermost image folders with names of splits, without a metadata file."""
    only_splits: bool = False
    """True if all outermost image folders have names of splits."""
    inner_classes: str = ""
    """The only outermost image folder, if it contains several image folders."""
    unread: tuple[str, ...] = ()
    """Metadata files inside subfolders, and tables of other names beside the images."""
    near: Mapping[Role, str] = field(default_factory=dict)
    """Role -> column that seems to have the role but is not read."""
    skipped: tuple[Skipped, ...] = ()
    """Files and folders that are skipped."""

    def refusal(self, path: str) -> str | None:
        """Error message for a folder that must not be trained on as it is; else None."""
        if not self.only_splits:
            return None
        first = self._first_split()
        files = [name for name in NAMES if f"{first}/{name}" in self.unread]
        note = f" (its {' and '.join(files)} is read then)" if files else ""
        return (
            f"the folders of images in {path} have names of splits ({_listed(self.splits)}), and "
            "each would become a class. Train on one of them (pippin holds out some of its "
            f"images): --data.path {Path(path) / first}{note}; or rename the folders if they are "
            "classes"
        )

    def warnings(self, path: str) -> list[str]:
        """Warnings about possibly wrong classes, shown at the start of every training."""
        messages = []
        if self.splits and not self.only_splits:
            messages.append(
                f"the folders {_listed(self.splits)} have names of splits and count as classes; "
                f"if they are splits, use --data.path {Path(path) / self._first_split()}"
            )
        inner = tuple(name for name in self.unread if "/" in name)
        if inner and not self.only_splits:
            messages.append(
                f"not read: {_listed(inner)}; a metadata file must be in {path} itself, with a "
                "row for each image of all folders"
            )
        return messages + self._unread_columns("caption", "split")

    def hints(self, path: str) -> list[str]:
        """Notes about allowed but possibly unintended layouts, for ``pippin data check`` only."""
        messages = []
        if self.inner_classes:
            messages.append(
                f"all images are in {self.inner_classes}, so they have one class; if the folders "
                f"in it are classes, use --data.path {Path(path) / self.inner_classes}"
            )
        if beside := tuple(name for name in self.unread if "/" not in name):
            messages.append(
                f"not read: {_listed(beside)}; a metadata file is called {' or '.join(NAMES)}, or "
                "named with --data.metadata NAME"
            )
        return messages + self._unread_columns("label")

    def _unread_columns(self, *roles: Role) -> list[str]:
        return [
            f"the column {self.near[role]!r} is not read: {_ADVICE[role]}"
            for role in roles
            if role in self.near
        ]

    def skipped_lines(self) -> list[str]:
        """Skipped files and folders, by reason."""
        return skipped_lines(self.skipped)

    def _first_split(self) -> str:
        return min(self.splits, key=lambda name: (not name.lower().startswith("train"), name))


_ADVICE: Mapping[Role, str] = {
    "label": f"the column of classes is {LABEL}; rename it",
    "caption": f"the column of captions is {' or '.join(CAPTIONS)}; rename it",
    "split": "images of all splits are used; keep one split in a separate metadata file",
}


def layout_facts(
    images: Iterable[str],
    others: Iterable[str],
    *,
    has_metadata: bool,
    near: Mapping[Role, str],
    skipped: tuple[Skipped, ...],
) -> LayoutFacts:
    """Layout facts from file names.

    Args:
        images, others: names of image files and of other files, relative to the folder.
        has_metadata: True if a metadata file defines the classes.
        near: see :class:`pippin.data.folder.metadata.Metadata`.
        skipped: see :func:`pippin.images.folder.find_images`.
    """
    if has_metadata:
        return LayoutFacts(near=near, skipped=skipped)
    outer: dict[str, set[str]] = {}
    for name in images:
        first, *inner = name.split("/")
        if inner:
            outer.setdefault(first, set()).add(inner[0] if len(inner) > 1 else "")
    splits = tuple(name for name in sorted(outer) if name.lower() in SPLITS)
    only_splits = len(splits) == len(outer) > 0
    (only, inner_names) = next(iter(outer.items())) if len(outer) == 1 else ("", set[str]())
    return LayoutFacts(
        splits=splits if only_splits or len(splits) > 1 else (),
        only_splits=only_splits,
        inner_classes=only if len(inner_names - {""}) > 1 and not only_splits else "",
        unread=tuple(sorted(filter(_is_table, others))),
        skipped=skipped,
    )


def _is_table(name: str) -> bool:
    """True for a metadata file in a subfolder, and for a table beside the images."""
    path = PurePosixPath(name)
    if len(path.parts) > 1:
        return path.name.lower() in (*NAMES, UNREAD)
    return path.suffix.lower() in TABLES


def _listed(names: tuple[str, ...]) -> str:
    rest = f" and {len(names) - MAX_LISTED} more" if len(names) > MAX_LISTED else ""
    return ", ".join(names[:MAX_LISTED]) + rest
