# SPDX-License-Identifier: Apache-2.0
"""Column names of metadata files: those that are read, and similar ones.

Names are compared without case and surrounding white space.
"""

import difflib
import re
from collections.abc import Iterable, Mapping
from typing import Literal

FILE, LABEL, CAPTIONS = "file_name", "label", ("caption", "text")
MORE_CAPTIONS = "caption_"
"""Prefix of the names of further caption columns."""
MAIN = "name"
"""Kind of the captions in a column of ``CAPTIONS``; other kinds are named by their columns."""

CLASS = "class"
"""Kind of caption that is the class name, on request."""

Role = Literal["file_name", "label", "caption", "split"]
_ALIASES: Mapping[Role, tuple[str, ...]] = {
    "file_name": (
        *("filename", "file", "filepath", "file_path", "path", "image", "image_path", "img"),
        *("image_name", "image_file", "image_file_name", "image_filename", "img_path", "picture"),
    ),
    "label": ("labels", "class", "classes", "class_name", "category", "target", "cls", "label_id"),
    "caption": (
        *("captions", "txt", "texts", "prompt", "prompts", "description", "descriptions"),
        *("sentence", "sentences", "title", "alt", "alt_text", "raw", "additional_feature"),
    ),
    "split": ("split", "splits", "subset", "fold"),
}
"""Names that other programs use for a column, in lower case with underscores."""


def column_name(name: str) -> str:
    """Canonical name of a column: `` Caption `` is ``caption``; other names are unchanged."""
    bare = name.strip().strip("\ufeff").strip()
    lower = bare.casefold()
    if lower in (FILE, LABEL, *CAPTIONS):
        return lower
    if lower.startswith(MORE_CAPTIONS):  # the rest names a kind of captions, with case
        return MORE_CAPTIONS + bare[len(MORE_CAPTIONS) :]
    return bare


def column_names(columns: Iterable[str]) -> dict[str, str]:
    """Name as written -> canonical name.

    Raises:
        ValueError: two columns have the same canonical name.
    """
    names_read = {column: column_name(column) for column in columns}
    originals: dict[str, str] = {}
    for column, canonical in names_read.items():
        is_read = canonical in (FILE, LABEL, *CAPTIONS) or canonical.startswith(MORE_CAPTIONS)
        if is_read and originals.setdefault(canonical, column) != column:
            raise ValueError(
                f"the columns {originals[canonical]!r} and {column!r} both mean {canonical!r}; "
                "keep one of them, or rename it"
            )
    return names_read


def caption_columns(columns: Iterable[str]) -> dict[str, str]:
    """Kind of caption -> column, the main one first."""
    columns = list(columns)
    main = next((name for name in CAPTIONS if name in columns), None)
    more = {name: name for name in columns if name.startswith(MORE_CAPTIONS)}
    return ({MAIN: main} if main else {}) | more


def near_columns(columns: Iterable[str]) -> dict[Role, str]:
    """Columns that are not read, by the role that their names suggest.

    Args:
        columns: canonical names; see :func:`column_name`.
    """
    columns = list(columns)
    is_present: dict[Role, bool] = {
        "file_name": FILE in columns,
        "label": LABEL in columns,
        "caption": any(name in CAPTIONS for name in columns),
        "split": False,
    }
    matches = {role: _near(role, columns) for role, present in is_present.items() if not present}
    return {role: name for role, name in matches.items() if name is not None}


def _near(role: Role, columns: list[str]) -> str | None:
    plain = {re.sub(r"[\s.-]+", "_", name.casefold()): name for name in reversed(columns)}
    names = [role, *_ALIASES[role]]
    if role == "split":  # no approximate match: unrelated words are similar
        return next((plain[name] for name in names if name in plain), None)
    close = difflib.get_close_matches(role, [p for p in plain if p[:8] != MORE_CAPTIONS], 1, 0.8)
    return next((plain[name] for name in (*names, *close) if name in plain), None)


def check_column(column: str) -> None:
    """Check the name of a further caption column.

    Raises:
        ValueError: the name does not start with ``caption_``, or has invalid characters.
    """
    if not re.fullmatch(rf"{MORE_CAPTIONS}[A-Za-z0-9_.-]+", column):
        raise ValueError(
            f"--column must be {MORE_CAPTIONS} and a name of letters, digits, '_', '.' and '-', "
            f"such as {MORE_CAPTIONS}blip; got {column!r}"
        )
