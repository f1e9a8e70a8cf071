# SPDX-License-Identifier: Apache-2.0
"""Caption files beside images, and cleaning of captions and labels from other programs.

``a.txt`` or ``a.caption`` beside ``a.png`` holds its caption: the layout of kohya's trainers and
of img2dataset. It applies without a metadata file.

Cells of metadata files, caption files, columns of parquet files and members of archives are
cleaned by the same rules: byte order marks are removed, NaN is an empty cell, a dictionary is not
a caption, and 2.0 is the class 2.
"""

import ast
import json
import math
import os
import re
from collections.abc import Iterable, Mapping
from decimal import Decimal
from numbers import Integral, Real
from pathlib import Path
from typing import Any

from pippin.system.files import open_regular
from pippin.system.text import BOM, decode_text
from pippin.system.workers.pool import map_in_threads

_NUMBER = re.compile(r"[+-]?\d+(\.\d+)?([eE][+-]?\d{1,3})?", re.ASCII)
_WHOLE = re.compile(r"(-?)(0|[1-9]\d*)\.0+", re.ASCII)
_NO_CAPTION = frozenset(("nan", "none", "null", "<na>"))
"""Text that programs write for an empty cell."""


class NotTextError(ValueError):
    """Value that is not a caption or label. The message gives the reason, not the file or row."""


def clean_caption(value: Any) -> str | None:
    """Caption as one line of text; None if there is none.

    Bytes are decoded as UTF-8, or as UTF-16 or UTF-32 after a byte order mark. Byte order marks at
    either end are removed, and each run of white space becomes one space. None, NaN, their names
    as text and white space alone count as no caption. Numbers become text.

    Raises:
        NotTextError: bytes of another encoding, a lone surrogate, or a dictionary or list, also
            one that was written as text.
    """
    text = _plain(value)
    _refuse_serialised(text)
    return None if text.casefold() in _NO_CAPTION else text or None


def clean_label(value: Any) -> str | None:
    """Class name; None if there is none.

    Rules of :func:`clean_caption` apply. In addition, whole numbers lose their decimals: 2.0, as
    pandas writes an integer column with an empty cell, is the class 2, as a number and as text.

    Raises:
        NotTextError: see :func:`clean_caption`.
    """
    text = _plain(value)
    if whole := _WHOLE.fullmatch(text):
        sign, digits = whole.groups()
        text = digits if digits == "0" else sign + digits
    return text or None


def sort_labels(labels: Iterable[str]) -> list[str]:
    """Distinct labels in the order of their class ids.

    Numbers come first, by value (0, 1, 2.5, 10). Other names follow in lexicographic order.
    Numbers of equal value, such as 7 and 07, are ordered as text.
    """
    return sorted(set(labels), key=_order)


def label_number(label: str) -> Decimal | None:
    """Value of a numeric label; None for other labels."""
    return Decimal(label) if _NUMBER.fullmatch(label) else None


def _order(label: str) -> tuple[bool, Decimal, str]:
    number = label_number(label)
    return number is None, Decimal(0) if number is None else number, label


def _refuse_serialised(text: str) -> None:
    """Reject a dictionary or list that was written as text, such as {'en': 'a dog'}."""
    if (text[:1], text[-1:]) not in (("{", "}"), ("[", "]")):
        return
    for parse in (json.loads, ast.literal_eval):
        try:
            value = parse(text)
        except (ValueError, SyntaxError, MemoryError, RecursionError):  # text in brackets
            continue
        if isinstance(value, dict | list | set):
            raise NotTextError(f"is a {type(value).__name__} written as text ({text[:40]})")


def _plain(value: Any) -> str:
    """Value as one line of text; empty for a missing value."""
    if value is None:
        return ""
    if isinstance(value, bytes | bytearray | memoryview):
        value = _decoded(bytes(value))
    if isinstance(value, str):
        return _one_line(value)
    if isinstance(value, bool):
        return str(value)
    if isinstance(value, Integral):
        return str(int(value))
    if isinstance(value, Real):
        return _number(float(value))
    if isinstance(value, Decimal):
        return _number(value)
    if isinstance(value, dict):
        keys = ", ".join(map(str, list(value)[:5]))
        raise NotTextError(f"is a dictionary (with {keys or 'no entries'}), not text")
    raise NotTextError(f"is of type {type(value).__name__}, not text")


def _decoded(content: bytes) -> str:
    try:
        return decode_text(content)
    except ValueError as error:
        raise NotTextError(f"is {error}") from error


def _one_line(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise NotTextError(
            f"is not Unicode text (character {error.start} is half of a surrogate pair)"
        ) from error
    line = " ".join(text.split())
    while line.startswith(BOM) or line.endswith(BOM):
        line = line.strip(BOM).strip()
    return line


def _number(value: float | Decimal) -> str:
    if math.isnan(value):
        return ""
    is_whole = math.isfinite(value) and value == int(value)
    return str(int(value)) if is_whole else str(value)


SUFFIXES = (".txt", ".caption")
"""Suffixes of caption files, the preferred one first."""
MAX_BYTES = 65_536
"""Maximum size of a caption file."""


class UnreadableCaptionError(ValueError):
    """Invalid caption file; the message gives the reason."""


def read_caption(path: Path) -> str:
    """Read a caption file as one line; empty if it has no text.

    Raises:
        UnreadableCaptionError: too long, not UTF-8 text, not a regular file, or not readable.
    """
    try:
        with open_regular(path) as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise UnreadableCaptionError(
            f"{path.name} cannot be read: {error.strerror or error}"
        ) from error
    if len(content) > MAX_BYTES:
        raise UnreadableCaptionError(
            f"{path.name} beside it has more than {MAX_BYTES} bytes, the maximum of a caption "
            "file; shorten or rename it"
        )
    try:
        return clean_caption(content) or ""
    except NotTextError as error:
        raise UnreadableCaptionError(
            f"{path.name} beside it {error}; it must be plain text"
        ) from error


def beside(names: Iterable[str], texts: Mapping[str, Path]) -> dict[str, Path]:
    """Path of the caption file of each image that has one.

    Args:
        names: names of images.
        texts: name -> path, of files with one of ``SUFFIXES``.
    """
    paths = {}
    for name in names:
        stem = os.path.splitext(name)[0]
        path = next((texts[stem + end] for end in SUFFIXES if stem + end in texts), None)
        if path is not None:
            paths[name] = path
    return paths


def read_captions(paths: Mapping[str, Path]) -> dict[str, str | UnreadableCaptionError]:
    """Caption of each image, or the error of an unreadable file."""
    captions = map_in_threads(_caption_or_error, paths.values(), os.cpu_count() or 1)
    return dict(zip(paths, captions, strict=True))


def _caption_or_error(path: Path) -> str | UnreadableCaptionError:
    try:
        return read_caption(path)
    except UnreadableCaptionError as error:
        return error
