# SPDX-License-Identifier: Apache-2.0
"""Metadata files of own pictures: CSV or JSON Lines, one row for each picture.

The columns are those of Hugging Face's ``imagefolder``: ``file_name``, relative to the folder, and
``label``, ``caption`` or ``text``. Further captions stand in columns ``caption_...``; others are
passed over.
"""

import csv
import io
import json
import posixpath
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pippin.system.text import decode_text

NAMES = ("metadata.csv", "metadata.jsonl")
UNREAD = "metadata.parquet"
"""A third form, which ``imagefolder`` has too."""
FILE, LABEL, CAPTIONS = "file_name", "label", ("caption", "text")
MORE_CAPTIONS = "caption_"
"""Begins the name of a column of further captions."""
MAIN = "name"
"""The kind of caption that a column of ``CAPTIONS`` holds; others' kinds are their names."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """What the metadata says of one picture."""

    line: int
    """Where, counted from 1."""
    file_name: str
    label: str | None
    """None where the cell is empty."""
    captions: Mapping[str, str]
    """Kind -> caption; those of empty cells are left out."""


@dataclass(frozen=True, kw_only=True)
class Metadata:
    """A whole file."""

    path: Path
    rows: tuple[Row, ...]
    has_labels: bool
    caption_kinds: tuple[str, ...]
    """Of the columns that hold captions, the main one first."""


def picture_name(file_name: str) -> str:
    """What a cell of ``file_name`` names: below the folder, with forward slashes, in Unicode's
    composed form."""
    return unicodedata.normalize("NFC", posixpath.normpath(file_name.replace("\\", "/")))


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


def find_metadata(folder: Path, name: str | None) -> Path | None:
    """The metadata file of a folder; None where it has none.

    Args:
        folder: of the pictures.
        name: a file inside it; None = one of ``NAMES``.

    Raises:
        ValueError: no such file, both of ``NAMES``, or only ``UNREAD``.
    """
    if name is not None:
        if not (folder / name).is_file():
            raise ValueError(f"data.metadata: {folder} has no file {name!r}")
        return folder / name
    found = [folder / one for one in NAMES if (folder / one).is_file()]
    if len(found) > 1:
        raise ValueError(
            f"{folder} has both {' and '.join(NAMES)}; say which with --data.metadata NAME"
        )
    if not found and (folder / UNREAD).is_file():
        raise ValueError(
            f"{folder / UNREAD} is not read; write it as {NAMES[1]}, such as by pandas: "
            f"read_parquet('{UNREAD}').to_json('{NAMES[1]}', orient='records', lines=True)"
        )
    return found[0] if found else None


def read_metadata(path: Path) -> Metadata:
    """All rows.

    Raises:
        ValueError: not CSV or JSON Lines in UTF-8 or in UTF-16 with a byte order mark, no column
            ``file_name``, or a value of the wrong kind; with the line.
    """
    readers = {".csv": _csv_rows, ".jsonl": _json_rows}
    if path.suffix.lower() not in readers:
        raise ValueError(f"metadata or captions must be a .csv or .jsonl file; got {path.name!r}")
    try:
        text = decode_text(path.read_bytes())
    except ValueError as error:
        raise ValueError(f"{path} is {error}") from error
    try:
        raw = list(readers[path.suffix.lower()](io.StringIO(text, newline="")))
    except _BadLineError as error:
        raise ValueError(f"{path}, line {error.line}: {error}") from error
    columns = dict.fromkeys(name for _, values in raw for name in values)
    if FILE not in columns:
        raise ValueError(
            f"{path} has no column {FILE!r}; it has: {', '.join(columns) or 'no rows at all'}"
        )
    captions = _caption_columns(columns)
    return Metadata(
        path=path,
        rows=tuple(_row(path, line, values, captions) for line, values in raw),
        has_labels=LABEL in columns,
        caption_kinds=tuple(captions),
    )


def _caption_columns(columns: Iterable[str]) -> dict[str, str]:
    """Kind of caption -> column."""
    main = next((name for name in CAPTIONS if name in columns), None)
    more = {name: name for name in columns if name.startswith(MORE_CAPTIONS)}
    return ({MAIN: main} if main else {}) | more


class _BadLineError(Exception):
    def __init__(self, line: int, message: str) -> None:
        super().__init__(message)
        self.line = line


def _csv_rows(file: Iterable[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    reader = csv.DictReader(file, strict=True)
    try:
        for values in reader:
            if None in values or None in values.values():
                wanted = len(reader.fieldnames or ())
                raise _BadLineError(
                    reader.line_num,
                    f"the first line has {wanted} cells and this one has not; cells with commas "
                    "need quotes",
                )
            yield reader.line_num, values
    except csv.Error as error:
        raise _BadLineError(reader.line_num, f"not CSV: {error}") from error


def _json_rows(file: Iterable[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in enumerate(file, 1):
        if not line.strip():
            continue
        try:
            values = json.loads(line)
        except json.JSONDecodeError as error:
            raise _BadLineError(number, f"not JSON: {error.msg}") from error
        if not isinstance(values, dict):
            raise _BadLineError(number, "each line must hold one JSON object")
        yield number, values


def _row(path: Path, line: int, values: dict[str, Any], columns: Mapping[str, str]) -> Row:
    def text(name: str, *kinds: type) -> str:
        value = values.get(name)
        if value is None:
            return ""
        if type(value) not in (str, *kinds):
            allowed = " or ".join(kind.__name__ for kind in (str, *kinds))
            advice = ", or the column another name" if name.startswith(MORE_CAPTIONS) else ""
            raise ValueError(
                f"{path}, line {line}: {name} must be {allowed}{advice}; got {value!r}"
            )
        return str(value).strip()

    file_name = text(FILE)
    if not file_name:
        raise ValueError(f"{path}, line {line}: {FILE} is empty")
    captions = {kind: text(column) for kind, column in columns.items()}
    return Row(
        line=line,
        file_name=file_name,
        label=text(LABEL, int) or None,
        captions={kind: caption for kind, caption in captions.items() if caption},
    )
