# SPDX-License-Identifier: Apache-2.0
"""A further column of captions in the metadata file of own pictures.

The file is replaced whole: it keeps all rows, columns and values, and captions that the column has
already stay as they are.
"""

import csv
import io
import json
import shutil
from collections.abc import Mapping
from pathlib import Path

from pippin.data.cleaning import NotTextError, clean_caption, clean_label
from pippin.data.config import ImagesConfig
from pippin.data.listing import Listing, list_pictures
from pippin.data.metadata import (
    NAMES,
    csv_options,
    find_metadata,
    picture_name,
    read_metadata,
)
from pippin.data.metadata_columns import CAPTIONS, FILE, LABEL, MAIN, column_name
from pippin.system.files import remove_staged, replacing
from pippin.system.json_text import parse_json
from pippin.system.text import BOM, decode_text


def given_captions(path: Path) -> dict[str, str]:
    """Picture -> caption, of a .jsonl or .csv file with ``file_name`` and ``caption`` or ``text``.

    Raises:
        ValueError: no such columns, or a picture that is named twice.
        OSError: it cannot be read.
    """
    found, captions = read_metadata(path), dict[str, str]()
    if MAIN not in found.caption_kinds:
        near = f"; rename {found.near['caption']!r} to caption" if "caption" in found.near else ""
        raise ValueError(
            f"{path} has no column 'caption' or 'text', so there is nothing to take{near}"
        )
    for row in found.rows:
        name = picture_name(row.file_name)
        if name in captions:
            raise ValueError(f"{path}, line {row.line} names {name} again; leave one of them")
        if row.problem:
            raise ValueError(f"{path}, {row.problem}")
        captions[name] = row.captions.get(MAIN, "")
    return captions


def set_column(data: ImagesConfig, column: str, captions: Mapping[str, str]) -> Path:
    """Write captions where the column has none yet; without a metadata file a new one names all
    pictures, with their classes.

    Args:
        data: the folder, and which metadata file.
        column: that :func:`pippin.data.metadata.check_column` allows.
        captions: picture -> caption.

    Returns:
        The metadata file.

    Raises:
        ValueError: a metadata file that cannot be used, or a picture that none can name.
        OSError: disk full or not writable; the file stays as it was.
    """
    folder = Path(data.path)
    place = find_metadata(folder, data.metadata)
    if place is None:
        listing = list_pictures(data)
        if lost := [one for one in listing.lost if one.reason == "unreadable caption"]:
            raise ValueError(
                f"{lost[0].name}: {lost[0].detail}. Without that the new metadata file would "
                f"leave out {len(lost)} pictures for good; `pippin data check` lists them"
            )
        _write(folder / NAMES[0], _new_rows(listing, column, captions))
        return folder / NAMES[0]
    read_metadata(place)  # with the line of whatever is wrong
    content = place.read_bytes()
    mark = BOM if content.startswith(BOM.encode()) else ""
    change = _changed_csv if place.suffix.lower() == ".csv" else _changed_json
    _write(place.resolve(), mark + change(decode_text(content), column, captions))
    return place


def _write(path: Path, text: str) -> None:
    remove_staged(path.parent, path.name)  # of a call that was killed
    with replacing(path) as staging:
        staging.write_bytes(text.encode())
        if path.exists():
            shutil.copymode(path, staging)


def _new_rows(listing: Listing, column: str, captions: Mapping[str, str]) -> str:
    """CSV with a row for each picture, and the captions that lie beside the pictures."""
    labelled, captioned = listing.layout == "class folders", bool(listing.caption_kinds)
    own = [*([LABEL] if labelled else []), *(CAPTIONS[:1] if captioned else [])]
    rows = [[FILE, *own, column]]
    for entry in listing.entries:
        name, label = entry.name, entry.label
        if picture_name(name) != name or name.strip() != name:
            raise ValueError(
                f"{name!r} cannot be named by a metadata file, for a backslash or an outer space; "
                "rename it"
            )
        if (read := clean_label(label)) != label:
            raise ValueError(
                f"the class {label!r} would be {read!r} in a metadata file; rename its folder"
            )
        cells = [*([label] if labelled else [])]
        cells += [entry.captions.get(MAIN, "")] if captioned else []
        rows.append([name, *map(_no_formula, (*cells, captions.get(name, "")))])
    return _csv(rows, "\n")


def _changed_csv(text: str, column: str, captions: Mapping[str, str]) -> str:
    options = csv_options(text.partition("\n")[0])
    head, *rows = csv.reader(io.StringIO(text, newline=""), **options)
    names = [column_name(name) for name in head]
    where = _last(names, FILE)
    if column not in names:
        head, names = [*head, column], [*names, column]
        rows = [[*row, ""] if row else row for row in rows]
    cell = _last(names, column)
    for row in filter(None, rows):
        if _is_empty(row[cell]):
            row[cell] = _no_formula(_caption(row[where], captions))
    return _csv([head, *rows], "\r\n" if "\r\n" in text else "\n")


def _changed_json(text: str, column: str, captions: Mapping[str, str]) -> str:
    """Lines that get no caption keep every byte."""
    lines = []
    for line in io.StringIO(text, newline=""):
        values = parse_json(line) if line.strip() else {}
        written = {column_name(name): name for name in values}
        caption = _caption(values.get(written.get(FILE, FILE), ""), captions)
        own = written.get(column, column)
        if caption and _is_empty(values.get(own)):
            line = _json_line(values | {own: caption}) + line[len(line.rstrip("\r\n")) :]
        lines.append(line)
    return "".join(lines)


def _caption(cell: str, captions: Mapping[str, str]) -> str:
    return captions.get(picture_name(cell.strip()), "")


def _no_formula(text: str) -> str:
    """Text that a spreadsheet takes for text; readers of metadata strip the space again."""
    return f" {text}" if text.startswith(("=", "+", "-", "@")) else text


def _is_empty(value: object) -> bool:
    """Whether a cell holds no caption yet; what is no text is not overwritten."""
    try:
        return clean_caption(value) is None
    except NotTextError:
        return False


def _json_line(values: Mapping[str, object]) -> str:
    """Readable, unless a string is no Unicode text."""
    text = json.dumps(values, ensure_ascii=False)
    return text if _is_text(text) else json.dumps(values)


def _is_text(text: str) -> bool:
    return text.encode("utf-8", "replace").decode() == text


def _csv(rows: list[list[str]], end: str) -> str:
    file = io.StringIO(newline="")
    csv.writer(file, lineterminator=end).writerows(rows)
    return file.getvalue()


def _last(head: list[str], column: str) -> int:
    """Of two columns of one name the last counts, as where the file is read."""
    return len(head) - 1 - head[::-1].index(column)
