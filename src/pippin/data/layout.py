# SPDX-License-Identifier: Apache-2.0
"""What is odd about the layout of a folder: splits that look like classes, tables left unread.

Found from names alone. What would train something else than meant is refused where a training or
a cache begins, the rest is said there and by ``pippin data check``.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from pippin.data.metadata import NAMES, UNREAD
from pippin.data.metadata_columns import CAPTIONS, LABEL, Role
from pippin.image_folder import Skipped, skipped_lines

SPLITS = frozenset(
    ("train", "training", "val", "valid", "validation", "dev", "eval", "test", "testing")
)
"""Names of folders that hold a split, in lower case."""
TABLES = (".csv", ".tsv", ".jsonl", ".parquet")
"""Suffixes of files in which labels or captions may stand."""
NAMED = 5
"""Names that a message gives of many."""


@dataclass(frozen=True, kw_only=True)
class LayoutFacts:
    """What a user may not expect of a folder."""

    splits: tuple[str, ...] = ()
    """Outermost folders of images that have names of splits, where nothing says otherwise."""
    only_splits: bool = False
    """Whether there are no other ones."""
    inner_classes: str = ""
    """The only outermost folder of images, where the images lie in several folders inside it."""
    unread: tuple[str, ...] = ()
    """Metadata files inside subfolders, and tables of other names beside the images."""
    near: Mapping[Role, str] = field(default_factory=dict)
    """Columns that are not read, by what they seem to hold."""
    skipped: tuple[Skipped, ...] = ()
    """Files and folders that are not looked at."""

    def refusal(self, path: str) -> str | None:
        """Why nothing should be trained on the folder as it is; None where there is no reason."""
        if not self.only_splits:
            return None
        first = self._first_split()
        files = [name for name in NAMES if f"{first}/{name}" in self.unread]
        rest = f" (its {' and '.join(files)} is read then)" if files else ""
        return (
            f"the folders of images in {path} have names of splits ({_listed(self.splits)}), and "
            "each would become a class. Train on one of them, of which pippin holds out some "
            f"images by itself: --data.path {Path(path) / first}{rest}; or rename the folders if "
            "they are classes"
        )

    def warnings(self, path: str) -> list[str]:
        """What would train something else than meant, said wherever a training begins."""
        found = []
        if self.splits and not self.only_splits:
            found.append(
                f"the folders {_listed(self.splits)} have names of splits and count as classes; "
                f"if they are splits, take --data.path {Path(path) / self._first_split()}"
            )
        inner = tuple(name for name in self.unread if "/" in name)
        if inner and not self.only_splits:
            found.append(
                f"not read: {_listed(inner)}; a metadata file counts in {path} itself only, with "
                "a row for each image of all folders"
            )
        return found + self._unread_columns("caption", "split")

    def hints(self, path: str) -> list[str]:
        """What is allowed and may not be meant, said by ``pippin data check`` alone."""
        found = []
        if self.inner_classes:
            found.append(
                f"all images lie in {self.inner_classes}, so they are of one class; if the "
                f"folders in it are classes, take --data.path {Path(path) / self.inner_classes}"
            )
        if beside := tuple(name for name in self.unread if "/" not in name):
            found.append(
                f"not read: {_listed(beside)}; a metadata file is called {' or '.join(NAMES)}, or "
                "named with --data.metadata NAME"
            )
        return found + self._unread_columns("label")

    def _unread_columns(self, *roles: Role) -> list[str]:
        return [
            f"the column {self.near[role]!r} is not read: {_MEANT[role]}"
            for role in roles
            if role in self.near
        ]

    def skipped_lines(self) -> list[str]:
        """What was not looked at, by reason."""
        return skipped_lines(self.skipped)

    def _first_split(self) -> str:
        return min(self.splits, key=lambda name: (not name.lower().startswith("train"), name))


_MEANT: Mapping[Role, str] = {
    "label": f"classes stand in the column {LABEL}; rename it",
    "caption": f"captions stand in the column {' or '.join(CAPTIONS)}; rename it",
    "split": "images of all its values are used; keep one split in a metadata file of its own",
}


def layout_facts(
    images: Iterable[str],
    others: Iterable[str],
    *,
    has_metadata: bool,
    near: Mapping[Role, str],
    skipped: tuple[Skipped, ...],
) -> LayoutFacts:
    """What is odd, by the names of files.

    Args:
        images, others: names below the folder, of image files and of other ones.
        has_metadata: whether a metadata file says the classes.
        near: as of :class:`pippin.data.metadata.Metadata`.
        skipped: as of :func:`pippin.image_folder.find_images`.
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
    (only, inside) = next(iter(outer.items())) if len(outer) == 1 else ("", set[str]())
    return LayoutFacts(
        splits=splits if only_splits or len(splits) > 1 else (),
        only_splits=only_splits,
        inner_classes=only if len(inside - {""}) > 1 and not only_splits else "",
        unread=tuple(sorted(filter(_is_table, others))),
        skipped=skipped,
    )


def _is_table(name: str) -> bool:
    """A metadata file in a subfolder, or a table beside the images of a folder without one."""
    path = PurePosixPath(name)
    if len(path.parts) > 1:
        return path.name.lower() in (*NAMES, UNREAD)
    return path.suffix.lower() in TABLES


def _listed(names: tuple[str, ...]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more
