# SPDX-License-Identifier: Apache-2.0
"""Addition of a caption column to the metadata file of a custom data set.

The file is replaced atomically. All rows, columns and values are kept, also existing captions of
the column.
"""

import csv
import io
import json
import shutil
from collections.abc import Mapping
from pathlib import Path

from pippin.data.config import ImagesConfig
from pippin.data.folder.caption_files import NotTextError, clean_caption, clean_label
from pippin.data.folder.listing import Listing, list_images
from pippin.data.folder.metadata import (
    NAMES,
    csv_options,
    find_metadata,
    image_name,
    read_metadata,
)
from pippin.data.folder.metadata_columns import CAPTIONS, FILE, LABEL, MAIN, column_name
from pippin.system.files import atomic_write, remove_temporary_files
from pippin.system.formats import parse_json
from pippin.system.text import BOM, decode_text, valid_unicode


def read_caption_file(path: Path) -> dict[str, str]:
    """Read image name -> caption from a .jsonl or .csv file with ``file_name`` and ``caption`` or
    ``text``.

    Raises:
        ValueError: no such columns, or a duplicate image.
        OSError: the file cannot be read.
    """
    metadata, captions = read_metadata(path), dict[str, str]()
    if MAIN not in metadata.caption_kinds:
        near = (
            f"; rename {metadata.near['caption']!r} to caption"
            if "caption" in metadata.near
            else ""
        )
        raise ValueError(f"{path} has no column 'caption' or 'text', so it has no captions{near}")
    for row in metadata.rows:
        name = image_name(row.file_name)
        if name in captions:
            raise ValueError(f"{path}, line {row.line} names {name} again; keep one of them")
        if row.problem:
            raise ValueError(f"{path}, {row.problem}")
        captions[name] = row.captions.get(MAIN, "")
    return captions


def add_caption_column(data: ImagesConfig, column: str, captions: Mapping[str, str]) -> Path:
    """Write captions into empty cells of a column. Without a metadata file, create one with all
    images and their classes.

    Args:
        data: folder and metadata file.
        column: a name that :func:`pippin.data.folder.metadata_columns.check_column` allows.
        captions: image name -> caption.

    Returns:
        Path of the metadata file.

    Raises:
        ValueError: an invalid metadata file, or an image name that it cannot hold.
        OSError: disk full or not writable; the file is unchanged.
    """
    folder = Path(data.path)
    place = find_metadata(folder, data.metadata)
    if place is None:
        listing = list_images(data)
        if skipped := [image for image in listing.skipped if image.reason == "unreadable caption"]:
            raise ValueError(
                f"{skipped[0].name}: {skipped[0].detail}. Repair it first: the new metadata file "
                f"would omit {len(skipped)} images; `pippin data check` lists them"
            )
        _write(folder / NAMES[0], _new_rows(listing, column, captions))
        return folder / NAMES[0]
    read_metadata(place)  # errors name the line
    content = place.read_bytes()
    mark = BOM if content.startswith(BOM.encode()) else ""
    change = _changed_csv if place.suffix.lower() == ".csv" else _changed_json
    _write(place.resolve(), mark + change(decode_text(content), column, captions))
    return place


def _write(path: Path, text: str) -> None:
    remove_temporary_files(path.parent, path.name)  # left by a killed call
    with atomic_write(path) as staging:
        staging.write_bytes(text.encode())
        if path.exists():
            shutil.copymode(path, staging)


def _new_rows(listing: Listing, column: str, captions: Mapping[str, str]) -> str:
    """CSV with a row for each image, including captions from files beside the images."""
    labelled, captioned = listing.layout == "class folders", bool(listing.caption_kinds)
    own = [*([LABEL] if labelled else []), *(CAPTIONS[:1] if captioned else [])]
    rows = [[FILE, *own, column]]
    for entry in listing.entries:
        name, label = entry.name, entry.label
        if image_name(name) != name or name.strip() != name:
            raise ValueError(
                f"{name!r} has a backslash or an outer space, which a metadata file cannot hold; "
                "rename it"
            )
        if (cleaned := clean_label(label)) != label:
            raise ValueError(
                f"the class {label!r} would be {cleaned!r} in a metadata file; rename its folder"
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
    """JSON Lines with new captions; other lines keep every byte."""
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
    return captions.get(image_name(cell.strip()), "")


def _no_formula(text: str) -> str:
    """Text that spreadsheets do not read as a formula; readers of metadata strip the space."""
    return f" {text}" if text.startswith(("=", "+", "-", "@")) else text


def _is_empty(value: object) -> bool:
    """True if a cell holds no caption; values that are not text count as filled."""
    try:
        return clean_caption(value) is None
    except NotTextError:
        return False


def _json_line(values: Mapping[str, object]) -> str:
    """JSON with unescaped characters, unless a string is invalid Unicode."""
    text = json.dumps(values, ensure_ascii=False)
    return text if text == valid_unicode(text) else json.dumps(values)


def _csv(rows: list[list[str]], end: str) -> str:
    file = io.StringIO(newline="")
    csv.writer(file, lineterminator=end).writerows(rows)
    return file.getvalue()


def _last(head: list[str], column: str) -> int:
    """Index of the last column with a name, as in the reader of metadata."""
    return len(head) - 1 - head[::-1].index(column)
