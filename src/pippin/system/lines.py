# SPDX-License-Identifier: Apache-2.0
"""Files of JSON lines: appended to, and read although a kill or a bad disk spoiled some lines.

Each line has a checksum of its own, ``content_sha256``, over all the rest of it. Of several lines
that are written together, each also states ``line`` = [k, n]: it is the k-th of n, so that a line
that is gone is missed. Lines of earlier versions have neither.
"""

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from pippin.system.files import write_bytes, write_text
from pippin.system.flush import sync
from pippin.system.formats import CHECKSUM, content_digest
from pippin.system.json_text import parse_json
from pippin.system.regular import read_regular

PLACE = "line"
"""Entry of a line: [k, n], the k-th of n lines that were written together."""


class DamagedLineError(ValueError):
    """A line of JSON that is not the one that was written."""


class Gap(NamedTuple):
    """Lines that were written together with others, some of which are gone or damaged."""

    numbers: tuple[int, ...]
    """Of those that are left."""
    damaged: tuple[int, ...]
    """Of those that are there and cannot be read."""
    written: int
    """How many there were."""

    @property
    def missing(self) -> int:
        """How many are gone. Damaged ones have a message of their own."""
        return max(0, self.written - len(self.numbers) - len(self.damaged))

    def __str__(self) -> str:
        first, last = self.numbers[0], self.numbers[-1]
        where = f"line {first}" if first == last else f"lines {first} to {last}"
        return (
            f"{where}: of {self.written} lines that were written together {self.missing} "
            f"{'is' if self.missing == 1 else 'are'} gone. Put a copy of the file back, or give "
            "the command again that wrote it"
        )


class Lines(NamedTuple):
    """What a file of JSON lines holds, by line number from 1."""

    objects: dict[int, dict[str, Any]]
    """Without checksums and places."""
    problems: dict[int, str]
    """Why a line cannot be read, or is not what was written."""
    gaps: tuple[Gap, ...] = ()


def read_lines(path: Path) -> Lines:
    """All JSON objects of a file, in order. A missing file is an empty one.

    A number that JSON does not know (NaN, Infinity) makes its line a problem.

    Raises:
        OSError: it cannot be read, or is no regular file.
    """
    objects: dict[int, dict[str, Any]] = {}
    problems: dict[int, str] = {}
    places: dict[int, tuple[int, int]] = {}
    text = read_regular(path).decode("utf-8", errors="replace") if path.exists() else ""
    # Not splitlines: a JSON string may hold U+2028, at which that would cut.
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            values = parse_line(line)
        except ValueError as error:
            problems[number] = str(error)
            continue
        if (place := _place(values.pop(PLACE, None))) is not None:
            places[number] = place
        objects[number] = values
    return Lines(objects, problems, tuple(_gaps(places, problems)))


def is_emptied(path: Path) -> bool:
    """Whether a file is there without a line: only a kill while it is made leaves that."""
    return path.exists() and not read_regular(path).strip()


def parse_object(text: str | bytes) -> dict[str, Any]:
    """A JSON object of finite numbers.

    Raises:
        ValueError: it is none.
    """
    values = parse_json(text, parse_constant=_refuse_constant, unique=True)
    if not isinstance(values, dict):
        raise ValueError("it is no JSON object")
    return values


def parse_line(line: str | bytes) -> dict[str, Any]:
    """One line, without its checksum.

    Raises:
        DamagedLineError: it is not the one that was written.
        ValueError: it is no JSON object.
    """
    values = parse_object(line)
    recorded = values.pop(CHECKSUM, None)
    if recorded not in (None, content_digest(values)):
        raise DamagedLineError(
            f"its content is not what was written ({CHECKSUM} differs). Put a copy of the file "
            "back, or give the command again that wrote it; where the line was edited on "
            f"purpose, remove its entry {CHECKSUM}"
        )
    return values


def line_text(values: Mapping[str, Any]) -> str:
    """A line with its checksum.

    Raises:
        ValueError: a number is not finite.
    """
    content = json.loads(json.dumps(values, allow_nan=False))  # keys as text, tuples as lists
    content.pop(CHECKSUM, None)
    return json.dumps(content | {CHECKSUM: content_digest(content)}) + "\n"


def append_lines(path: Path, objects: Iterable[Mapping[str, Any]]) -> None:
    """Add lines to the end of a file, by one write, and wait until the disk has them.

    Where the last line has no end, for its writer was killed, it gets one: so it spoils no other.

    Raises:
        ValueError: a number is not finite.
        OSError: disk full or not writable; what was there before stays.
    """
    content = _text(objects).encode()
    descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        before = os.fstat(descriptor).st_size
        if before and os.pread(descriptor, 1, before - 1) != b"\n":
            content = b"\n" + content
        try:
            while content:
                content = content[os.write(descriptor, content) :]
            os.fsync(descriptor)
        except OSError as error:
            os.ftruncate(descriptor, before)  # the part that found room
            error.filename = str(path)
            raise
    finally:
        os.close(descriptor)
    if not before:
        sync(path.parent)  # the name is new


def write_lines(path: Path, objects: Iterable[Mapping[str, Any]]) -> None:
    """Replace a file whole.

    Raises:
        ValueError: a number is not finite.
    """
    write_text(path, _text(objects))


def keep_unreadable(path: Path, aside: Path) -> None:
    """Add the lines of a file that cannot be read to the end of another one, before they go."""
    if problems := read_lines(path).problems:
        lines = read_regular(path).split(b"\n")
        append_bytes(aside, b"".join(lines[number - 1] + b"\n" for number in problems))


def append_bytes(path: Path, content: bytes) -> None:
    """Add to the end of a file, and wait until the disk has it.

    Raises:
        OSError: disk full or not writable.
    """
    with path.open("ab") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    sync(path.parent)


def keep_lines(path: Path, wanted: Callable[[dict[str, Any]], bool]) -> None:
    """Leave only the lines that are wanted, as they are.

    Lines that a kill cut off go too. One that is whole and not what was written stays: it is
    named wherever it is read.
    """
    if path.exists():
        lines = read_regular(path).split(b"\n")
        kept = [line for line in lines if line.strip() and _is_kept(line, wanted)]
        write_bytes(path, b"".join(line + b"\n" for line in kept))


def _is_kept(line: bytes, wanted: Callable[[dict[str, Any]], bool]) -> bool:
    try:
        values = parse_line(line)
    except DamagedLineError:
        return True
    except ValueError:
        return False
    values.pop(PLACE, None)
    return wanted(values)


def _text(objects: Iterable[Mapping[str, Any]]) -> str:
    """Lines that are written together."""
    values = list(objects)
    if len(values) == 1:  # that it is there says all
        return line_text(values[0])
    count = len(values)
    return "".join(line_text({**one, PLACE: [k, count]}) for k, one in enumerate(values, start=1))


def _place(stated: Any) -> tuple[int, int] | None:
    """Which of how many lines; None = not known."""
    if not isinstance(stated, list) or [type(one) for one in stated] != [int, int]:
        return None
    return (stated[0], stated[1]) if 1 <= stated[0] <= stated[1] else None


def _gaps(places: Mapping[int, tuple[int, int]], problems: Mapping[int, str]) -> Iterator[Gap]:
    """Lines that were written together and are not all there.

    Args:
        places: line number -> the k-th of n, in the order of the file.
        problems: by the number of a line that says nothing of its place.
    """
    groups: list[dict[int, tuple[int, int]]] = []
    last = (0, 0)
    for number, place in places.items():
        if place[1] != last[1] or place[0] <= last[0]:
            groups.append({})
        groups[-1][number] = last = place
    for group in groups:
        first, (rank, written) = next(iter(group.items()))
        if len(group) < written:
            start = first - rank + 1
            damaged = [number for number in problems if start <= number < start + written]
            yield Gap(tuple(group), tuple(damaged), written)


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON number; a value that is not finite is stored as null")
