# SPDX-License-Identifier: Apache-2.0
"""Metadata files of custom data sets: CSV or JSON Lines, with one row for each image.

The columns follow Hugging Face's ``imagefolder``: ``file_name``, relative to the folder, and
``label``, ``caption`` or ``text``. Columns ``caption_...`` hold further captions; other columns
are ignored.
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

from pippin.data.folder.caption_files import NotTextError, clean_caption, clean_label, label_number
from pippin.data.folder.metadata_columns import (
    FILE,
    LABEL,
    MORE_CAPTIONS,
    Role,
    caption_columns,
    column_names,
    near_columns,
)
from pippin.system.files import file_kind, open_regular
from pippin.system.formats import parse_json
from pippin.system.text import decode_text

NAMES = ("metadata.csv", "metadata.jsonl")
UNREAD = "metadata.parquet"
"""Format that ``imagefolder`` reads and pippin does not."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """Metadata of one image."""

    line: int
    """Line number, from 1."""
    file_name: str
    label: str | None
    """None for an empty cell."""
    written_label: str | None = None
    """Label as written in the cell, if it differs: 2.0 for the class 2."""
    captions: Mapping[str, str]
    """Kind -> caption; empty cells are omitted."""
    problem: str | None = None
    """Reason why a caption is not text."""


@dataclass(frozen=True, kw_only=True)
class Metadata:
    """Content of a metadata file."""

    path: Path
    rows: tuple[Row, ...]
    has_labels: bool
    caption_kinds: tuple[str, ...]
    """Kinds of the caption columns, the main one first."""
    near: Mapping[Role, str]
    """Role -> column that seems to have the role but is not read."""


def image_name(file_name: str) -> str:
    """Image name in a cell of ``file_name``: relative to the folder, with forward slashes, in
    Unicode normal form C."""
    return unicodedata.normalize("NFC", posixpath.normpath(file_name.replace("\\", "/")))


def find_metadata(folder: Path, name: str | None) -> Path | None:
    """Find the metadata file of a folder; None if there is none.

    Args:
        folder: folder of the images.
        name: file name inside the folder; None = one of ``NAMES``.

    Raises:
        ValueError: no such file, both of ``NAMES``, or only ``UNREAD``.
    """
    if name is not None:
        if not _is_there(folder / name):
            raise ValueError(f"data.metadata: {folder} has no file {name!r}")
        return folder / name
    paths = [folder / name for name in NAMES if _is_there(folder / name)]
    if len(paths) > 1:
        raise ValueError(
            f"{folder} has both {' and '.join(NAMES)}; choose one with --data.metadata NAME"
        )
    if not paths and (folder / UNREAD).is_file():
        raise ValueError(
            f"{folder / UNREAD} is not read; convert it to {NAMES[1]}, for example with pandas: "
            f"read_parquet('{UNREAD}').to_json('{NAMES[1]}', orient='records', lines=True)"
        )
    return paths[0] if paths else None


def _is_there(path: Path) -> bool:
    """True if the file exists.

    Raises:
        ValueError: the path exists but is not a file, so it would be ignored silently.
    """
    if path.exists() and not path.is_file():
        raise ValueError(
            f"{path} is {file_kind(path.stat().st_mode)}, not a metadata file; rename or remove it"
        )
    return path.is_file()


def read_metadata(path: Path) -> Metadata:
    """Read all rows.

    Column names are compared without case and surrounding white space. Captions and labels are
    cleaned (:mod:`pippin.data.folder.caption_files`).

    Raises:
        ValueError: not CSV or JSON Lines in UTF-8 or in UTF-16 with a byte order mark, no column
            ``file_name``, duplicate columns, or a value of the wrong type; with the line number.
        OSError: the file cannot be read.
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
    """Columns of a file without ``file_name``, and advice."""
    columns = list(columns)
    text = f"it has: {', '.join(columns) or 'no rows at all'}"
    if len(columns) == 1 and (sign := next((s for s in ";\t|" if s in columns[0]), None)):
        return f"{text}; its delimiter is {sign!r}: save it with commas"
    return f"{text}; rename {near['file_name']!r} to {FILE}" if "file_name" in near else text


class _BadLineError(Exception):
    def __init__(self, line: int, message: str) -> None:
        super().__init__(message)
        self.line = line


def csv_options(head: str) -> dict[str, Any]:
    """Options of the CSV reader, from the first line.

    If the first line has spaces after commas, such spaces do not belong to cells, so quoted cells
    start after them.
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
                num_cells = len(reader.fieldnames)
                raise _BadLineError(
                    reader.line_num,
                    f"the first line has {num_cells} cells, this one has another number; cells "
                    "with commas need quotes",
                )
            yield reader.line_num, values
    except csv.Error as error:
        raise _BadLineError(reader.line_num, f"not CSV: {error}") from error


def _read_names(line: int, written: Iterable[str]) -> list[str]:
    """Canonical names of the columns, in order."""
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
        except (ValueError, RecursionError) as error:  # too many digits, or deep nesting
            raise _BadLineError(number, f"JSON that cannot be read: {error}") from error
        if not isinstance(values, dict):
            raise _BadLineError(number, "each line must hold one JSON object")
        yield number, dict(zip(_read_names(number, values), values.values(), strict=True))


def _row(path: Path, line: int, values: dict[str, Any], columns: Mapping[str, str]) -> Row:
    def cell(name: str, *types: type, allowed: str = "text") -> Any:
        value = values.get(name)
        if value is None or value != value:  # NaN is an empty cell
            return None
        if type(value) in (str, *types):
            return value
        advice = ", or the column another name" if name.startswith(MORE_CAPTIONS) else ""
        raise ValueError(f"{path}, line {line}: {name} must be {allowed}{advice}; got {value!r}")

    file_name = (cell(FILE) or "").strip()
    if not file_name:
        raise ValueError(f"{path}, line {line}: {FILE} is empty")
    written = cell(LABEL, int, float, allowed="text or a number")
    try:
        label = clean_label(written)
    except NotTextError as error:
        raise ValueError(f"{path}, line {line}: {LABEL} {error}") from error
    captions, problem = {}, None
    for kind, column in columns.items():
        try:
            captions[kind] = clean_caption(cell(column, dict, list))
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
    """Replace the label "nan" by an empty label, if all other labels are numbers."""
    labels = {row.label for row in rows if row.label is not None}
    empty = {label for label in labels if label.casefold() == "nan"}
    if not empty or any(label_number(label) is None for label in labels - empty):
        return rows
    return [replace(row, label=None) if row.label in empty else row for row in rows]
