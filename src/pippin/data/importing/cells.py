# SPDX-License-Identifier: Apache-2.0
"""Image, captions and class of a row, with counts of imported and ignored columns."""

import ast
import json
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from pippin.data.folder.caption_files import NotTextError, clean_caption, clean_label
from pippin.data.importing.columns import Columns
from pippin.data.importing.rows import (
    FileSlice,
    Row,
    find_name,
    match_kind,
    printable,
    suffix_of_kind,
)
from pippin.data.importing.tar import LARGEST_JSON
from pippin.system.formats import parse_json
from pippin.system.text import decode_text

LARGEST_TEXT = 65_536
"""Maximum size in bytes of a member with a caption or class."""
INTERNAL = ("__key__", "__url__")
"""Internal columns that ``datasets`` adds."""
BRACKETS = (("[", "]"), ("{", "}"))
"""First and last characters of lists and dictionaries written as text."""
SHOWN = 5
"""Maximum number of dictionary keys in a message."""


class SkippedRowError(ValueError):
    """Row that is skipped; the message gives the reason."""


@dataclass(frozen=True, kw_only=True)
class ParsedRow:
    """Values of one row."""

    image: Any
    """Value that holds the bytes of an image; None if there is none."""
    texts: dict[str, str]
    """Columns of metadata.jsonl, except the file name."""
    taken: dict[str, str]
    """image, label or a column of metadata.jsonl -> column of the source."""


@dataclass
class RowReader:
    """Reader of rows by the columns of an import, with counts.

    Args:
        columns: columns of the import.
        classes: column -> class names, of the shard.
        table: columns of a tabular shard; None = an archive.
    """

    columns: Columns
    classes: Mapping[str, tuple[str, ...]]
    table: Collection[str] | None
    taken: defaultdict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    """image, label or a column of metadata.jsonl -> column of the source -> rows."""
    unread: Counter[str] = field(default_factory=Counter)
    """Ignored columns -> number of rows that have them."""
    seen: set[str] = field(default_factory=set)
    """Columns of the import that occurred in any row, empty or not."""

    def read(self, row: Row) -> ParsedRow:
        """Parse a row.

        Raises:
            SkippedRowError: a caption or class is not text, or a json is invalid.
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
            raise SkippedRowError(f"{printable(cells.latest)} {error}") from None
        finally:
            self.seen |= cells.seen
        self.unread.update(cells.unread(self.table))
        return ParsedRow(image=image, texts=texts, taken=taken)

    def count(self, parsed: ParsedRow) -> None:
        """Count the columns of a row after its image was accepted."""
        for role, column in parsed.taken.items():
            self.taken[role][column] += 1

    def _image(self, cells: "_Cells") -> tuple[str | None, Any]:
        for candidate in self.columns.images:
            if (match := cells.find(candidate, is_text=False)) is None:
                continue
            column, value = match
            if isinstance(value, list):
                cells.note(f"{column} (further images of a row)", len(value) - 1)
                value = value[0] if value else None
            return column, value
        return None, None

    def _captions(
        self, cells: "_Cells", name: str, candidates: tuple[str, ...], taken: dict[str, str]
    ) -> dict[str, str]:
        """Column of metadata.jsonl -> caption; several if a cell holds a list."""
        for candidate in candidates:
            if (match := cells.find(candidate)) is None:
                continue
            column, value = cells.read(match)
            value = _unwrapped(value)
            values = value if isinstance(value, list) else [value]
            if any(isinstance(item, dict | list) for item in values):
                cells.note_compound(column, value)
                continue
            captions = [text for item in values if (text := clean_caption(item))]
            if captions:
                taken[name] = column
                # Several captions of one image become separate kinds.
                more = f"caption_{name.removeprefix('caption_')}_"
                return {name if n == 0 else f"{more}{n}": text for n, text in enumerate(captions)}
        return {}

    def _label(self, cells: "_Cells", taken: dict[str, str]) -> str | None:
        for candidate in self.columns.labels:
            if (match := cells.find(candidate)) is None:
                continue
            column, value = cells.read(match)
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
    """Class name of a class id; -1 means no class."""
    if not isinstance(value, int | float) or value != value or value != int(value):
        return value
    if value >= len(names):
        cells.note(f"{column} (numbers without a name)")
    return names[int(value)] if 0 <= value < len(names) else None


class _Cells:
    """Cells of one row, found by the names that users give."""

    def __init__(self, cells: Mapping[str, Any], *, is_archive: bool) -> None:
        self._cells, self._is_archive = cells, is_archive
        self._parsed: dict[str, Any] = {}
        self._used: set[str] = set()
        """Columns and entries that were read, by their own names."""
        self._notes: Counter[str] = Counter()
        self.seen: set[str] = set()
        """Requested names that exist."""
        self.latest = ""
        """Column that was read last."""

    def find(self, name: str, *, is_text: bool = True) -> tuple[str, Any] | None:
        """Find the column or entry of a name, and its value; members of archives are not read.

        Args:
            name: name as users write it; for archives see :func:`match_kind`.
            is_text: ``NAME`` stands for a member ``NAME.txt`` too.

        Raises:
            NotTextError: the name is inside a json that cannot be read.
        """
        match = self._find(name)
        if match is None and is_text and self._is_archive:
            match = self._find(f"{name}.txt")
        if match is not None:
            self.seen.add(name)
            self._used.add(match[0])
        return match

    def read(self, match: tuple[str, Any]) -> tuple[str, Any]:
        """Result of :meth:`find`, with the bytes of a member as the value.

        Raises:
            NotTextError: the member is too large for a text.
        """
        self.latest, value = match
        return self.latest, _content(value, LARGEST_TEXT) if isinstance(
            value, FileSlice
        ) else value

    def note(self, what: str, count: int = 1) -> None:
        """Count an ignored value."""
        self._notes[what] += count

    def note_compound(self, column: str, value: Any) -> None:
        """Count a list or dictionary where text is expected."""
        keys = ", ".join(map(str, list(value)[:SHOWN])) if isinstance(value, dict) else ""
        self.note(f"{column} ({f'dictionary with {keys}' if keys else 'list'})")

    def unread(self, table: Collection[str] | None) -> Counter[str]:
        """Counts of ignored columns, entries and values."""
        ignored = +self._notes
        for column in self._cells if table is None else table:
            entries = self._parsed.get(column)
            paths = [column]
            if isinstance(entries, dict) and entries:
                paths = [f"{column}.{key}" for key in entries]
            ignored.update(path for path in paths if not self._is_used(path))
        return ignored

    def _is_used(self, path: str) -> bool:
        inside = f"{path}."
        return path in INTERNAL or any(
            used == path or used.startswith(inside) for used in self._used
        )

    def _find(self, name: str) -> tuple[str, Any] | None:
        if (column := self._column(name)) is not None:
            return column, self._cells[column]
        parts = name.split(".")
        for cut in range(len(parts) - 1, 0, -1):
            column = self._column(".".join(parts[:cut]))
            if column is None or (self._is_archive and suffix_of_kind(column) != "json"):
                continue
            if (entry := _dig(self._entries(column), parts[cut:])) is not None:
                return f"{column}.{entry[0]}", entry[1]
        return None

    def _column(self, name: str) -> str | None:
        if not self._is_archive:
            return find_name(name, self._cells)
        kind = match_kind(name.lower(), self._cells)
        if kind is None and name == "json":
            kind = next((name for name in self._cells if name.endswith(".json")), None)
        return kind

    def _entries(self, column: str) -> Any:
        """Dictionary in a cell, or in the json of a member."""
        value = self._cells[column]
        if not isinstance(value, FileSlice):
            return _unwrapped(value)
        if column not in self._parsed:
            self.latest = column
            self._parsed[column] = _json(_content(value, LARGEST_JSON))
        return self._parsed[column]


def _content(member: FileSlice, max_bytes: int) -> bytes:
    if member.num_bytes > max_bytes:
        raise NotTextError(f"has {member.num_bytes} bytes; {max_bytes} are allowed")
    return member.read()


def _unwrapped(value: Any) -> Any:
    """Parse a list or dictionary that was written as text; return other values unchanged."""
    text = value
    if isinstance(value, bytes) and value[:1] in (b"[", b"{"):
        text = value.decode("utf-8", "replace")
    if not isinstance(text, str) or (text[:1], text.rstrip()[-1:]) not in BRACKETS:
        return value
    for parse in (json.loads, ast.literal_eval):
        try:
            parsed = parse(text)
        except (ValueError, SyntaxError, MemoryError, RecursionError):  # text in brackets
            continue
        if isinstance(parsed, dict | list):
            return parsed
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
    """Own name and value of the entry at a path in nested dictionaries, whose keys may have
    dots."""
    if not path:
        return "", value
    if not isinstance(value, dict):
        return None
    for cut in range(len(path), 0, -1):
        key = find_name(".".join(path[:cut]), value)
        if key is not None and (below := _dig(value[key], path[cut:])) is not None:
            return f"{key}.{below[0]}".rstrip("."), below[1]
    return None
