# SPDX-License-Identifier: Apache-2.0
"""Names of the columns of a metadata file: which are read, and which look as if they should be.

Names are compared without case and without the white space around them.
"""

import difflib
import re
from collections.abc import Iterable, Mapping
from typing import Literal

FILE, LABEL, CAPTIONS = "file_name", "label", ("caption", "text")
MORE_CAPTIONS = "caption_"
"""Begins the name of a column of further captions."""
MAIN = "name"
"""The kind of caption that a column of ``CAPTIONS`` holds; others' kinds are their names."""

CLASS = "class"
"""The kind of caption that is the name of an image's class, where that is asked for."""

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
"""What other programs call a column, in lower case with underscores."""


def column_name(name: str) -> str:
    """A column by the name that is read: `` Caption `` is ``caption``; others as they are."""
    bare = name.strip().strip("\ufeff").strip()
    lower = bare.casefold()
    if lower in (FILE, LABEL, *CAPTIONS):
        return lower
    if lower.startswith(MORE_CAPTIONS):  # what follows names a kind of captions, case and all
        return MORE_CAPTIONS + bare[len(MORE_CAPTIONS) :]
    return bare


def column_names(names: Iterable[str]) -> dict[str, str]:
    """Name as written -> name that is read.

    Raises:
        ValueError: two columns that are written differently mean the same one.
    """
    found = {name: column_name(name) for name in names}
    written: dict[str, str] = {}
    for name, read in found.items():
        is_read = read in (FILE, LABEL, *CAPTIONS) or read.startswith(MORE_CAPTIONS)
        if is_read and written.setdefault(read, name) != name:
            raise ValueError(
                f"the columns {written[read]!r} and {name!r} both mean {read!r}; leave one of "
                "them, or rename it"
            )
    return found


def caption_columns(columns: Iterable[str]) -> dict[str, str]:
    """Kind of caption -> column, the main one first."""
    columns = list(columns)
    main = next((name for name in CAPTIONS if name in columns), None)
    more = {name: name for name in columns if name.startswith(MORE_CAPTIONS)}
    return ({MAIN: main} if main else {}) | more


def near_columns(columns: Iterable[str]) -> dict[Role, str]:
    """Columns that are not read, by what their names say that they hold.

    Args:
        columns: as :func:`column_name` gives them.
    """
    columns = list(columns)
    has: dict[Role, bool] = {
        "file_name": FILE in columns,
        "label": LABEL in columns,
        "caption": any(name in CAPTIONS for name in columns),
        "split": False,
    }
    found = {role: _near(role, columns) for role, there in has.items() if not there}
    return {role: name for role, name in found.items() if name is not None}


def _near(role: Role, columns: list[str]) -> str | None:
    plain = {re.sub(r"[\s.-]+", "_", name.casefold()): name for name in reversed(columns)}
    names = [role, *_ALIASES[role]]
    if role == "split":  # other words look alike
        return next((plain[name] for name in names if name in plain), None)
    close = difflib.get_close_matches(role, [p for p in plain if p[:8] != MORE_CAPTIONS], 1, 0.8)
    return next((plain[name] for name in (*names, *close) if name in plain), None)


def check_column(column: str) -> None:
    """Refuse what cannot name a further column of captions.

    Raises:
        ValueError: it does not begin with ``caption_``, or has other signs.
    """
    if not re.fullmatch(rf"{MORE_CAPTIONS}[A-Za-z0-9_.-]+", column):
        raise ValueError(
            f"--column must be {MORE_CAPTIONS} and a name of letters, digits, '_', '.' and '-', "
            f"such as {MORE_CAPTIONS}blip; got {column!r}"
        )
