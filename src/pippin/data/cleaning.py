# SPDX-License-Identifier: Apache-2.0
"""Captions and labels as other programs write them, made plain text.

One place for cells of metadata files, text files beside images, columns of parquet files and
members of archives: a byte order mark is no text, NaN is an empty cell, a dictionary is no
caption, and 2.0 is the class 2.
"""

import math
import re
from collections.abc import Iterable
from decimal import Decimal
from numbers import Integral, Real
from typing import Any

BYTE_ORDER_MARK = "\ufeff"
_NUMBER = re.compile(r"[+-]?\d+(\.\d+)?([eE][+-]?\d{1,3})?", re.ASCII)
_WHOLE = re.compile(r"(-?)(0|[1-9]\d*)\.0+", re.ASCII)


class NotTextError(ValueError):
    """A value that is no caption or label; says why, without naming the file or row."""


def clean_caption(value: Any) -> str | None:
    """The text of a caption in one line; None where there is none.

    Bytes are read as UTF-8. Byte order marks at either end are removed, and each run of white
    space is one space. None, NaN and white space alone are no caption. Numbers become text.

    Raises:
        NotTextError: bytes that are not UTF-8, a surrogate without its other half, or a value of
            several parts such as a dictionary or a list.
    """
    return _plain(value) or None


def clean_label(value: Any) -> str | None:
    """The name of a class; None where there is none.

    As :func:`clean_caption`, and a whole number is written without its decimals: 2.0, as pandas
    writes a column of integers that has an empty cell, is the class 2, as a number and as text.

    Raises:
        NotTextError: as :func:`clean_caption`.
    """
    text = _plain(value)
    if whole := _WHOLE.fullmatch(text):
        sign, digits = whole.groups()
        text = digits if digits == "0" else sign + digits
    return text or None


def sort_labels(labels: Iterable[str]) -> list[str]:
    """Different labels in the order of their class ids.

    Numbers come first, by their values (0, 1, 2.5, 10); other names follow in the order of their
    characters. Numbers of equal value, such as 7 and 07, are ordered as text.
    """
    return sorted(set(labels), key=_order)


def _order(label: str) -> tuple[bool, Decimal, str]:
    is_number = _NUMBER.fullmatch(label) is not None
    return not is_number, Decimal(label) if is_number else Decimal(0), label


def _plain(value: Any) -> str:
    """One line of text; empty where a value says nothing."""
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
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise NotTextError(f"is not UTF-8 text (byte {error.start})") from error


def _one_line(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise NotTextError(
            f"is not Unicode text (character {error.start} is half of a surrogate pair)"
        ) from error
    line = " ".join(text.split())
    while line.startswith(BYTE_ORDER_MARK) or line.endswith(BYTE_ORDER_MARK):
        line = line.strip(BYTE_ORDER_MARK).strip()
    return line


def _number(value: float | Decimal) -> str:
    if math.isnan(value):
        return ""
    is_whole = math.isfinite(value) and value == int(value)
    return str(int(value)) if is_whole else str(value)
