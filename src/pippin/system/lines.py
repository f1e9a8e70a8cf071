# SPDX-License-Identifier: Apache-2.0
"""JSON Lines files: append, and read even if a kill or a bad disk damaged some lines.

Each line has its own checksum, ``content_sha256``, over its other entries. Lines written together
also hold ``line`` = [k, n], the k-th of n, so that a missing line is noticed. Lines of earlier
versions have neither.
"""

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from pippin.system.files import read_regular, sync, write_bytes, write_text
from pippin.system.formats import CHECKSUM, content_digest, parse_json

POSITION = "line"
"""Entry of a line: [k, n], the k-th of n lines that were written together."""


class DamagedLineError(ValueError):
    """A JSON line whose content differs from what was written."""


class Gap(NamedTuple):
    """A group of lines written together, some of which are missing or damaged."""

    numbers: tuple[int, ...]
    """Line numbers that are left."""
    damaged: tuple[int, ...]
    """Line numbers that cannot be read."""
    written: int
    """Number of lines in the group."""

    @property
    def missing(self) -> int:
        """Number of missing lines. Damaged ones are reported separately."""
        return max(0, self.written - len(self.numbers) - len(self.damaged))

    def __str__(self) -> str:
        first, last = self.numbers[0], self.numbers[-1]
        where = f"line {first}" if first == last else f"lines {first} to {last}"
        return (
            f"{where}: {self.missing} of {self.written} lines that were written together "
            f"{'is' if self.missing == 1 else 'are'} missing. Restore a copy of the file, or run "
            "the command that wrote it again"
        )


class Lines(NamedTuple):
    """Content of a JSON Lines file by line number, from 1."""

    objects: dict[int, dict[str, Any]]
    """Objects without checksums and positions."""
    problems: dict[int, str]
    """Reasons why lines cannot be read or differ from what was written."""
    gaps: tuple[Gap, ...] = ()


def read_lines(path: Path) -> Lines:
    """Read all JSON objects of a file, in order. A missing file counts as empty.

    A line with a non-JSON number (NaN, Infinity) is a problem.

    Raises:
        OSError: the file cannot be read, or is not a regular file.
    """
    objects: dict[int, dict[str, Any]] = {}
    problems: dict[int, str] = {}
    positions: dict[int, tuple[int, int]] = {}
    text = read_regular(path).decode("utf-8", errors="replace") if path.exists() else ""
    # Not splitlines, which would split at a U+2028 inside a JSON string.
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            values = parse_line(line)
        except ValueError as error:
            problems[number] = str(error)
            continue
        if (position := _position(values.pop(POSITION, None))) is not None:
            positions[number] = position
        objects[number] = values
    return Lines(objects, problems, tuple(_gaps(positions, problems)))


def has_no_lines(path: Path) -> bool:
    """Whether a file exists without a line, as a kill during its creation leaves it."""
    return path.exists() and not read_regular(path).strip()


def parse_object(text: str | bytes) -> dict[str, Any]:
    """Parse a JSON object of finite numbers.

    Raises:
        ValueError: not such an object.
    """
    values = parse_json(text, parse_constant=_refuse_constant, unique=True)
    if not isinstance(values, dict):
        raise ValueError("it is not a JSON object")
    return values


def parse_line(line: str | bytes) -> dict[str, Any]:
    """Parse one line, without its checksum.

    Raises:
        DamagedLineError: the checksum differs.
        ValueError: not a JSON object.
    """
    values = parse_object(line)
    recorded = values.pop(CHECKSUM, None)
    if recorded not in (None, content_digest(values)):
        raise DamagedLineError(
            f"its content does not match its checksum ({CHECKSUM}). Restore a copy of the file or "
            "run the command that wrote it again; if the line was edited on purpose, remove its "
            f"entry {CHECKSUM}"
        )
    return values


def line_text(values: Mapping[str, Any]) -> str:
    """Text of a line with its checksum.

    Raises:
        ValueError: a number is not finite.
    """
    content = json.loads(json.dumps(values, allow_nan=False))  # keys as text, tuples as lists
    content.pop(CHECKSUM, None)
    return json.dumps(content | {CHECKSUM: content_digest(content)}) + "\n"


def append_lines(path: Path, objects: Iterable[Mapping[str, Any]]) -> None:
    """Append lines to a file in one write, and fsync it.

    An unterminated last line, left by a killed writer, is terminated first, so that it damages no
    other.

    Raises:
        ValueError: a number is not finite.
        OSError: disk full or not writable; the earlier content stays.
    """
    content = _text(objects).encode()
    descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        size = os.fstat(descriptor).st_size
        if size and os.pread(descriptor, 1, size - 1) != b"\n":
            content = b"\n" + content
        try:
            while content:
                content = content[os.write(descriptor, content) :]
            os.fsync(descriptor)
        except OSError as error:
            os.ftruncate(descriptor, size)  # drop the part that was written
            error.filename = str(path)
            raise
    finally:
        os.close(descriptor)
    if not size:
        sync(path.parent)  # the name is new


def write_lines(path: Path, objects: Iterable[Mapping[str, Any]]) -> None:
    """Replace a file atomically.

    Raises:
        ValueError: a number is not finite.
    """
    write_text(path, _text(objects))


def save_unreadable_lines(path: Path, aside: Path) -> None:
    """Append the unreadable lines of a file to another file, before they are removed."""
    if problems := read_lines(path).problems:
        lines = read_regular(path).split(b"\n")
        append_bytes(aside, b"".join(lines[number - 1] + b"\n" for number in problems))


def append_bytes(path: Path, content: bytes) -> None:
    """Append bytes to a file, and fsync it.

    Raises:
        OSError: disk full or not writable.
    """
    with path.open("ab") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    sync(path.parent)


def keep_lines(path: Path, predicate: Callable[[dict[str, Any]], bool]) -> None:
    """Keep only the lines for which ``predicate`` is true, unchanged.

    Lines cut off by a kill are removed too. A complete line with a wrong checksum stays: every
    reader reports it.
    """
    if path.exists():
        lines = read_regular(path).split(b"\n")
        kept = [line for line in lines if line.strip() and _is_kept(line, predicate)]
        write_bytes(path, b"".join(line + b"\n" for line in kept))


def _is_kept(line: bytes, predicate: Callable[[dict[str, Any]], bool]) -> bool:
    try:
        values = parse_line(line)
    except DamagedLineError:
        return True
    except ValueError:
        return False
    values.pop(POSITION, None)
    return predicate(values)


def _text(objects: Iterable[Mapping[str, Any]]) -> str:
    """Text of lines that are written together."""
    values = list(objects)
    if len(values) == 1:  # a single line needs no position
        return line_text(values[0])
    count = len(values)
    return "".join(
        line_text({**line, POSITION: [k, count]}) for k, line in enumerate(values, start=1)
    )


def _position(stated: Any) -> tuple[int, int] | None:
    """(k, n) of a line; None = not known."""
    if not isinstance(stated, list) or [type(number) for number in stated] != [int, int]:
        return None
    return (stated[0], stated[1]) if 1 <= stated[0] <= stated[1] else None


def _gaps(positions: Mapping[int, tuple[int, int]], problems: Mapping[int, str]) -> Iterator[Gap]:
    """Groups of lines written together that are incomplete.

    Args:
        positions: line number -> (k, n), in the order of the file.
        problems: by the number of a line without a position.
    """
    groups: list[dict[int, tuple[int, int]]] = []
    last = (0, 0)
    for number, position in positions.items():
        if position[1] != last[1] or position[0] <= last[0]:
            groups.append({})
        groups[-1][number] = last = position
    for group in groups:
        first, (index, written) = next(iter(group.items()))
        if len(group) < written:
            start = first - index + 1
            damaged = [number for number in problems if start <= number < start + written]
            yield Gap(tuple(group), tuple(damaged), written)


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a JSON number; store a non-finite value as null")
