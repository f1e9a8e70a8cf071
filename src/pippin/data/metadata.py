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
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pippin.data.cleaning import NotTextError, clean_caption, clean_label, label_number
from pippin.data.metadata_columns import (
    FILE,
    LABEL,
    MORE_CAPTIONS,
    Role,
    caption_columns,
    column_names,
    near_columns,
)
from pippin.system.json_text import parse_json
from pippin.system.regular import file_kind, open_regular
from pippin.system.text import decode_text

NAMES = ("metadata.csv", "metadata.jsonl")
UNREAD = "metadata.parquet"
"""A third form, which ``imagefolder`` has too."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """What the metadata says of one picture."""

    line: int
    """Where, counted from 1."""
    file_name: str
    label: str | None
    """None where the cell is empty."""
    written_label: str | None = None
    """As in the cell, where that differs: 2.0 of the class 2."""
    captions: Mapping[str, str]
    """Kind -> caption; those of empty cells are left out."""
    problem: str | None = None
    """Why one of its captions is no text."""


@dataclass(frozen=True, kw_only=True)
class Metadata:
    """A whole file."""

    path: Path
    rows: tuple[Row, ...]
    has_labels: bool
    caption_kinds: tuple[str, ...]
    """Of the columns that hold captions, the main one first."""
    near: Mapping[Role, str]
    """Columns that are not read, by what they seem to hold."""


def picture_name(file_name: str) -> str:
    """What a cell of ``file_name`` names: below the folder, with forward slashes, in Unicode's
    composed form."""
    return unicodedata.normalize("NFC", posixpath.normpath(file_name.replace("\\", "/")))


def find_metadata(folder: Path, name: str | None) -> Path | None:
    """The metadata file of a folder; None where it has none.

    Args:
        folder: of the pictures.
        name: a file inside it; None = one of ``NAMES``.

    Raises:
        ValueError: no such file, both of ``NAMES``, or only ``UNREAD``.
    """
    if name is not None:
        if not _is_there(folder / name):
            raise ValueError(f"data.metadata: {folder} has no file {name!r}")
        return folder / name
    found = [folder / one for one in NAMES if _is_there(folder / one)]
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


def _is_there(path: Path) -> bool:
    """Whether there is a file of this name.

    Raises:
        ValueError: there is something else, which would be left unread in silence.
    """
    if path.exists() and not path.is_file():
        raise ValueError(
            f"{path} is {file_kind(path.stat().st_mode)}, not a metadata file; rename or remove it"
        )
    return path.is_file()


def read_metadata(path: Path) -> Metadata:
    """All rows.

    Names of columns are compared without case and without the white space around them, captions
    and labels are cleaned (:mod:`pippin.data.cleaning`).

    Raises:
        ValueError: not CSV or JSON Lines in UTF-8 or in UTF-16 with a byte order mark, no column
            ``file_name``, two columns that mean the same, or a value of the wrong kind; with the
            line.
        OSError: it cannot be read.
    """
    readers = {".csv": _csv_rows, ".jsonl": _json_rows}
    if path.suffix.lower() not in readers:
        raise ValueError(f"metadata or captions must be a .csv or .jsonl file; got {path.name!r}")
    try:
        with open_regular(path) as file:
            text = decode_text(file.read())
    except ValueError as error:
        raise ValueError(f"{path} is {error}") from error
    try:
        raw = list(readers[path.suffix.lower()](io.StringIO(text, newline="")))
    except _BadLineError as error:
        raise ValueError(f"{path}, line {error.line}: {error}") from error
    columns = dict.fromkeys(name for _, values in raw for name in values)
    near = near_columns(columns)
    if FILE not in columns:
        raise ValueError(f"{path} has no column {FILE!r}; {_instead(columns, near)}")
    captions = caption_columns(columns)
    rows = [_row(path, line, values, captions) for line, values in raw]
    return Metadata(
        path=path,
        rows=tuple(_without_nan(rows)),
        has_labels=LABEL in columns,
        caption_kinds=tuple(captions),
        near=near,
    )


def _instead(columns: Iterable[str], near: Mapping[Role, str]) -> str:
    """What a file without names of images has, and what to do."""
    columns = list(columns)
    text = f"it has: {', '.join(columns) or 'no rows at all'}"
    if len(columns) == 1 and (sign := next((s for s in ";\t|" if s in columns[0]), None)):
        return f"{text}; its cells are parted by {sign!r}: save it with commas"
    return f"{text}; rename {near['file_name']!r} to {FILE}" if "file_name" in near else text


class _BadLineError(Exception):
    def __init__(self, line: int, message: str) -> None:
        super().__init__(message)
        self.line = line


def csv_options(head: str) -> dict[str, Any]:
    """How the cells of a CSV file are parted, by its first line.

    A space that follows a comma belongs to no cell where the first line has such spaces: a quoted
    cell begins after it.
    """
    return {"strict": True, "skipinitialspace": re.search(r",[ \t]+\S", head) is not None}


def _csv_rows(file: io.StringIO) -> Iterator[tuple[int, dict[str, Any]]]:
    head = file.readline()
    file.seek(0)
    reader = csv.DictReader(file, **csv_options(head))
    try:
        reader.fieldnames = _read_names(1, reader.fieldnames or ())
        for values in reader:
            if None in values or None in values.values():
                wanted = len(reader.fieldnames)
                raise _BadLineError(
                    reader.line_num,
                    f"the first line has {wanted} cells and this one has not; cells with commas "
                    "need quotes",
                )
            yield reader.line_num, values
    except csv.Error as error:
        raise _BadLineError(reader.line_num, f"not CSV: {error}") from error


def _read_names(line: int, written: Iterable[str]) -> list[str]:
    """The columns by the names that are read, in their order."""
    written = list(written)
    try:
        names = column_names(written)
    except ValueError as error:
        raise _BadLineError(line, str(error)) from error
    return [names[name] for name in written]


def _json_rows(file: io.StringIO) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in enumerate(file, 1):
        if not line.strip():
            continue
        try:
            values = parse_json(line, unique=True)
        except json.JSONDecodeError as error:
            raise _BadLineError(number, f"not JSON: {error.msg}") from error
        except (ValueError, RecursionError) as error:  # numbers of too many digits, deep nesting
            raise _BadLineError(number, f"JSON that cannot be read: {error}") from error
        if not isinstance(values, dict):
            raise _BadLineError(number, "each line must hold one JSON object")
        yield number, dict(zip(_read_names(number, values), values.values(), strict=True))


def _row(path: Path, line: int, values: dict[str, Any], columns: Mapping[str, str]) -> Row:
    def text(name: str, *kinds: type, allowed: str = "text") -> Any:
        value = values.get(name)
        if value is None or value != value:  # NaN says nothing
            return None
        if type(value) in (str, *kinds):
            return value
        advice = ", or the column another name" if name.startswith(MORE_CAPTIONS) else ""
        raise ValueError(f"{path}, line {line}: {name} must be {allowed}{advice}; got {value!r}")

    file_name = (text(FILE) or "").strip()
    if not file_name:
        raise ValueError(f"{path}, line {line}: {FILE} is empty")
    written = text(LABEL, int, float, allowed="text or a number")
    try:
        label = clean_label(written)
    except NotTextError as error:
        raise ValueError(f"{path}, line {line}: {LABEL} {error}") from error
    captions, problem = {}, None
    for kind, column in columns.items():
        try:
            captions[kind] = clean_caption(text(column, dict, list))
        except NotTextError as error:
            problem = problem or f"line {line}: {column} {error}"
    return Row(
        line=line,
        file_name=file_name,
        label=label,
        written_label=None if written is None else str(written).strip(),
        captions={kind: caption for kind, caption in captions.items() if caption},
        problem=problem,
    )


def _without_nan(rows: list[Row]) -> list[Row]:
    """Rows in which "nan" is an empty label, where all other labels are numbers."""
    labels = {row.label for row in rows if row.label is not None}
    empty = {label for label in labels if label.casefold() == "nan"}
    if not empty or any(label_number(label) is None for label in labels - empty):
        return rows
    return [replace(row, label=None) if row.label in empty else row for row in rows]
