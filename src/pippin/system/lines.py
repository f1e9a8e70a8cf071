# SPDX-License-Identifier: Apache-2.0
"""Files of JSON lines: appended to, and read although a kill or a bad disk spoiled some lines."""

import json
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from pippin.system.files import write_text
from pippin.system.flush import sync
from pippin.system.json_text import parse_json


class Lines(NamedTuple):
    """What a file of JSON lines holds, by line number from 1."""

    objects: dict[int, dict[str, Any]]
    problems: dict[int, str]
    """Why a line cannot be read."""


def read_lines(path: Path) -> Lines:
    """All JSON objects of a file, in order. A missing file is an empty one.

    A number that JSON does not know (NaN, Infinity) makes its line a problem.
    """
    objects: dict[int, dict[str, Any]] = {}
    problems: dict[int, str] = {}
    text = path.read_bytes().decode("utf-8", errors="replace") if path.is_file() else ""
    # Not splitlines: a JSON string may hold U+2028, at which that would cut.
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            objects[number] = parse_object(line)
        except ValueError as error:
            problems[number] = str(error)
    return Lines(objects, problems)


def parse_object(line: str | bytes) -> dict[str, Any]:
    """One line.

    Raises:
        ValueError: it is no JSON object.
    """
    values = parse_json(line, parse_constant=_refuse_constant)
    if not isinstance(values, dict):
        raise ValueError("it is no JSON object")
    return values


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
        lines = path.read_bytes().split(b"\n")
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
    """Leave only the lines that are wanted; lines that cannot be read go too."""
    if path.exists():
        write_text(path, _text(one for one in read_lines(path).objects.values() if wanted(one)))


def _text(objects: Iterable[Mapping[str, Any]]) -> str:
    return "".join(json.dumps(one, allow_nan=False) + "\n" for one in objects)


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON number; a value that is not finite is stored as null")
