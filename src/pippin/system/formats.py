# SPDX-License-Identifier: Apache-2.0
"""The version of every kind of file that pippin writes, and the one check of it.

A file states its version as ``format``. Files from before versions were stated have none, and are
of version 0. A version is raised when a reader of the one before would take the file for something
else; what is merely added, and may be absent, does not raise it.

Small JSON files that decide what numbers mean carry ``content_sha256`` besides, over all the rest.
Both entries keep their meaning in every version.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pippin.system.files import write_text
from pippin.system.json_text import parse_json
from pippin.system.regular import read_regular

FORMATS = {
    "run": 1,
    "inputs": 1,
    "checkpoint": 1,
    "export": 1,
    "samples": 1,
    "latent cache": 1,
    "cache shard": 1,
    "image index": 1,
    "import": 1,
    "study": 1,
    "results": 1,
    "autoencoder": 1,
    "autoencoder training": 1,
    "reference statistics": 1,
    "bench record": 1,
}
"""Kind of file -> the version that is written, and the newest that is read."""
VERSION, CHECKSUM = "format", "content_sha256"


class FormatError(ValueError):
    """A file of a newer version than this one reads. What it is in is not to be written over."""


def check_format(kind: str, version: Any, place: Path | str) -> int:
    """The version of a file.

    Args:
        kind: one of :data:`FORMATS`.
        version: what the file states; None = it states none. Digits where it can hold text only.
        place: the file, for the message.

    Raises:
        FormatError: it is newer.
        ValueError: that is no version.
    """
    if version is None:
        return 0
    stated = int(version) if isinstance(version, str) and version.isdecimal() else version
    if type(stated) is not int or stated < 0:
        raise ValueError(f"{place} is damaged: {VERSION} is {version!r}, no version")
    if stated > FORMATS[kind]:
        raise FormatError(
            f"{place} was written by a newer pippin: {kind} format {stated}, this one reads up to "
            f"{FORMATS[kind]}; upgrade pippin"
        )
    return stated


def stamped(kind: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """A JSON object with its version before, and its checksum behind."""
    content = {VERSION: FORMATS[kind], **values}
    plain = json.loads(json.dumps(content))  # keys as text, before they are sorted
    return {**content, CHECKSUM: content_digest(plain)}


def write_stamped(path: Path, kind: str, values: Mapping[str, Any]) -> None:
    """Replace a file by JSON that :func:`read_stamped` checks.

    Raises:
        OSError: disk full or not writable; an earlier file stays.
    """
    write_text(path, json.dumps(stamped(kind, values), indent=2) + "\n")


def read_stamped(path: Path, kind: str | None) -> dict[str, Any]:
    """The JSON object of a file, without version and checksum; older files may lack both.

    Args:
        path: of the file.
        kind: one of :data:`FORMATS`; None = of no version, its checksum is still compared.

    Raises:
        FormatError: of a newer version.
        ValueError: no JSON object, or not the one that was written; the file is named.
        OSError: it is not there or cannot be read.
    """
    try:
        values = parse_json(read_regular(path), unique=True)
    except ValueError as error:
        raise ValueError(f"{path} is not JSON: {error}") from error
    return check_stamped(values, kind, path)


def check_stamped(values: Any, kind: str | None, place: Path | str) -> dict[str, Any]:
    """The same for values that were read from some place; see :func:`read_stamped`.

    Raises:
        FormatError, ValueError: as there.
    """
    if not isinstance(values, dict):
        raise ValueError(f"{place} must hold a JSON object; it holds a {type(values).__name__}")
    if kind is not None:
        check_format(kind, values.get(VERSION), place)
    content = {name: value for name, value in values.items() if name != CHECKSUM}
    if values.get(CHECKSUM) not in (None, content_digest(content)):
        raise ValueError(
            f"{place} is damaged: its content is not what was written ({CHECKSUM} differs). Put a "
            f"copy of it back; where it was edited on purpose, remove its entry {CHECKSUM}"
        )
    if kind is not None:
        content.pop(VERSION, None)
    return content


def content_digest(values: Mapping[str, Any]) -> str:
    """SHA-256 of plain JSON values, whatever the order and the spaces they are written with."""
    text = json.dumps(values, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
