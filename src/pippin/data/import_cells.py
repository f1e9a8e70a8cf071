# SPDX-License-Identifier: Apache-2.0
"""What a row of a source says of its image: which column gave what, and what was not taken."""

import ast
import json
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from pippin.data.cleaning import NotTextError, clean_caption, clean_label
from pippin.data.import_columns import Columns
from pippin.data.import_names import find_name, match_kind, shown, suffix_of_kind
from pippin.data.import_rows import Row, Stored
from pippin.data.import_tar import LARGEST_JSON
from pippin.system.json_text import parse_json
from pippin.system.text import decode_text

LARGEST_TEXT = 65_536
"""Bytes of a caption or class in a member of its own."""
INTERNAL = ("__key__", "__url__")
"""Columns that ``datasets`` adds."""
BRACKETS = (("[", "]"), ("{", "}"))
"""First and last characters of lists and dictionaries that were written as text."""
SHOWN = 5
"""Entries of a dictionary that are named."""


class UnusableRowError(ValueError):
    """A row that is left out; says why."""


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What one row holds."""

    image: Any
    """A value that holds an image's bytes; None where there is none."""
    texts: dict[str, str]
    """Columns of metadata.jsonl but the file's name."""
    taken: dict[str, str]
    """image, label or a column of metadata.jsonl -> column of the source."""


@dataclass
class RowReader:
    """Takes the cells of rows by the columns of an import, and counts.

    Args:
        columns: of the import.
        classes: column -> names of its classes, of the shard.
        table: columns of the shard where it is a table; None = an archive.
    """

    columns: Columns
    classes: Mapping[str, tuple[str, ...]]
    table: Collection[str] | None
    taken: defaultdict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    """image, label or a column of metadata.jsonl -> column of the source -> rows."""
    unread: Counter[str] = field(default_factory=Counter)
    """Columns that were not taken -> rows that have them."""
    seen: set[str] = field(default_factory=set)
    """Columns of the import that some row had, empty or not."""

    def read(self, row: Row) -> Reading:
        """Take the cells of a row.

        Raises:
            UnusableRowError: a caption or class that is no text, or a json that is none.
        """
        cells = _Cells(row.cells, is_archive=self.table is None)
        column, image = self._image(cells)
        taken = {} if column is None else {"image": column}
        texts: dict[str, str] = {}
        try:
            for name, candidates in self.columns.texts.items():
                texts |= self._captions(cells, name, candidates, taken)
            if label := self._label(cells, taken):
                texts["label"] = label
        except NotTextError as error:
            raise UnusableRowError(f"{shown(cells.latest)} {error}") from None
        finally:
            self.seen |= cells.seen
        self.unread.update(cells.unread(self.table))
        return Reading(image=image, texts=texts, taken=taken)

    def count(self, reading: Reading) -> None:
        """Count what was taken of a row, once its image is known to be one."""
        for role, column in reading.taken.items():
            self.taken[role][column] += 1

    def _image(self, cells: "_Cells") -> tuple[str | None, Any]:
        for candidate in self.columns.images:
            if (found := cells.find(candidate, is_text=False)) is None:
                continue
            column, value = found
            if isinstance(value, list):
                cells.note(f"{column} (further images of a row)", len(value) - 1)
                value = value[0] if value else None
            return column, value
        return None, None

    def _captions(
        self, cells: "_Cells", name: str, candidates: tuple[str, ...], taken: dict[str, str]
    ) -> dict[str, str]:
        """Column of metadata.jsonl -> caption; several where a cell holds a list."""
        for candidate in candidates:
            if (found := cells.find(candidate)) is None:
                continue
            column, value = cells.read(found)
            value = _unwrapped(value)
            values = value if isinstance(value, list) else [value]
            if any(isinstance(one, dict | list) for one in values):
                cells.note_compound(column, value)
                continue
            captions = [text for one in values if (text := clean_caption(one))]
            if captions:
                taken[name] = column
                # Several captions of one image: each is a kind of its own.
                more = f"caption_{name.removeprefix('caption_')}_"
                return {name if n == 0 else f"{more}{n}": text for n, text in enumerate(captions)}
        return {}

    def _label(self, cells: "_Cells", taken: dict[str, str]) -> str | None:
        for candidate in self.columns.labels:
            if (found := cells.find(candidate)) is None:
                continue
            column, value = cells.read(found)
            value = _unwrapped(value)
            if isinstance(value, dict | list):
                cells.note_compound(column, value)
                continue
            if names := self.classes.get(column):
                value = _class_name(cells, column, value, names)
            if label := clean_label(value):
                taken["label"] = column
                return label
        return None


def _class_name(cells: "_Cells", column: str, value: Any, names: tuple[str, ...]) -> Any:
    """The name of a class's number; -1 means that there is none."""
    if not isinstance(value, int | float) or value != value or value != int(value):
        return value
    if value >= len(names):
        cells.note(f"{column} (numbers without a name)")
    return names[int(value)] if 0 <= value < len(names) else None


class _Cells:
    """The cells of one row, by the names that users give them."""

    def __init__(self, cells: Mapping[str, Any], *, is_archive: bool) -> None:
        self._cells, self._is_archive = cells, is_archive
        self._parsed: dict[str, Any] = {}
        self._used: set[str] = set()
        """Columns and entries that were looked into by their own names."""
        self._notes: Counter[str] = Counter()
        self.seen: set[str] = set()
        """Names that were asked for and are there."""
        self.latest = ""
        """The column that was read last."""

    def find(self, wanted: str, *, is_text: bool = True) -> tuple[str, Any] | None:
        """The column or entry of a name, and its value; members of archives are not read.

        Args:
            wanted: as users write it; of an archive as :func:`match_kind` has it.
            is_text: ``NAME`` stands for a member ``NAME.txt`` too.

        Raises:
            NotTextError: it lies in a json that cannot be read.
        """
        found = self._find(wanted)
        if found is None and is_text and self._is_archive:
            found = self._find(f"{wanted}.txt")
        if found is not None:
            self.seen.add(wanted)
            self._used.add(found[0])
        return found

    def read(self, found: tuple[str, Any]) -> tuple[str, Any]:
        """What :meth:`find` gave, with the bytes of a member in its place.

        Raises:
            NotTextError: the member is too large for a text.
        """
        self.latest, value = found
        return self.latest, _content(value, LARGEST_TEXT) if isinstance(value, Stored) else value

    def note(self, what: str, count: int = 1) -> None:
        """Count what is there and was not taken."""
        self._notes[what] += count

    def note_compound(self, column: str, value: Any) -> None:
        """Count a list or dictionary in the place of a text."""
        keys = ", ".join(map(str, list(value)[:SHOWN])) if isinstance(value, dict) else ""
        self.note(f"{column} ({f'dictionary with {keys}' if keys else 'list'})")

    def unread(self, table: Collection[str] | None) -> Counter[str]:
        """Columns and entries that were not looked into, and what was noted."""
        found = +self._notes
        for column in self._cells if table is None else table:
            entries = self._parsed.get(column)
            paths = [column]
            if isinstance(entries, dict) and entries:
                paths = [f"{column}.{key}" for key in entries]
            found.update(path for path in paths if not self._is_used(path))
        return found

    def _is_used(self, path: str) -> bool:
        inside = f"{path}."
        return path in INTERNAL or any(one == path or one.startswith(inside) for one in self._used)

    def _find(self, wanted: str) -> tuple[str, Any] | None:
        if (column := self._column(wanted)) is not None:
            return column, self._cells[column]
        parts = wanted.split(".")
        for cut in range(len(parts) - 1, 0, -1):
            column = self._column(".".join(parts[:cut]))
            if column is None or (self._is_archive and suffix_of_kind(column) != "json"):
                continue
            if (entry := _dig(self._entries(column), parts[cut:])) is not None:
                return f"{column}.{entry[0]}", entry[1]
        return None

    def _column(self, wanted: str) -> str | None:
        if not self._is_archive:
            return find_name(wanted, self._cells)
        kind = match_kind(wanted.lower(), self._cells)
        if kind is None and wanted == "json":
            kind = next((name for name in self._cells if name.endswith(".json")), None)
        return kind

    def _entries(self, column: str) -> Any:
        """A dictionary in a cell, or in the json of a member."""
        value = self._cells[column]
        if not isinstance(value, Stored):
            return _unwrapped(value)
        if column not in self._parsed:
            self.latest = column
            self._parsed[column] = _json(_content(value, LARGEST_JSON))
        return self._parsed[column]


def _content(member: Stored, most: int) -> bytes:
    if member.num_bytes > most:
        raise NotTextError(f"has {member.num_bytes} bytes; {most} are allowed")
    return member.read()


def _unwrapped(value: Any) -> Any:
    """The list or dictionary that a program wrote as text; other values as they are."""
    text = value
    if isinstance(value, bytes) and value[:1] in (b"[", b"{"):
        text = value.decode("utf-8", "replace")
    if not isinstance(text, str) or (text[:1], text.rstrip()[-1:]) not in BRACKETS:
        return value
    for read in (json.loads, ast.literal_eval):
        try:
            found = read(text)
        except (ValueError, SyntaxError, MemoryError, RecursionError):  # text in brackets
            continue
        if isinstance(found, dict | list):
            return found
    return value


def _json(content: bytes) -> Any:
    try:
        text = decode_text(content)
    except ValueError as error:
        raise NotTextError(f"is {error}") from None
    try:
        return parse_json(text)
    except ValueError as error:
        raise NotTextError(f"is not JSON ({error})") from None


def _dig(value: Any, path: list[str]) -> tuple[str, Any] | None:
    """The entry at a path in dictionaries, whose keys may have dots; its own names and value."""
    if not path:
        return "", value
    if not isinstance(value, dict):
        return None
    for cut in range(len(path), 0, -1):
        key = find_name(".".join(path[:cut]), value)
        if key is not None and (below := _dig(value[key], path[cut:])) is not None:
            return f"{key}.{below[0]}".rstrip("."), below[1]
    return None
