# SPDX-License-Identifier: Apache-2.0
"""JSON files: parsing of foreign ones, format versions of pippin's own.

Every kind of file that pippin writes states its version as ``format``; files without the entry
have version 0. A version is raised when an older reader would misinterpret the file. Optional new
entries do not raise it.

Small JSON files that give numbers their meaning also hold ``content_sha256``, over all other
entries. Both entries keep their meaning in every version.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pippin.system.files import read_regular, write_text


def parse_json(
    text: str | bytes,
    parse_constant: Callable[[str], Any] | None = None,
    *,
    unique: bool = False,
) -> Any:
    """Parse a JSON text.

    Args:
        text: bytes are UTF-8, UTF-16 or UTF-32.
        parse_constant: called with NaN, Infinity or -Infinity; None = they are floats.
        unique: refuse duplicate keys of an object; otherwise the last value counts.

    Raises:
        ValueError: not JSON, not text, nested too deep, or a duplicate key.
    """
    try:
        return json.loads(
            text, parse_constant=parse_constant, object_pairs_hook=_unique if unique else None
        )
    except RecursionError as error:
        raise ValueError("its brackets are nested too deeply") from error


ENTRY_ERRORS = (LookupError, TypeError, ValueError, AttributeError, ArithmeticError)
"""Exceptions of reading entries of a foreign file that are missing, or of another type or size."""
AGAIN = "download or save it again"
"""Remedy for a damaged file that pippin did not write."""


def read_foreign_json(path: Path) -> dict[str, Any]:
    """JSON object of a file of another library, such as config.json.

    Raises:
        ValueError: not a JSON object; the message names the file.
        OSError: the file is missing or cannot be read.
    """
    try:
        values = parse_json(read_regular(path))
    except ValueError as error:
        raise ValueError(f"{path} is not a JSON object: {error}; {AGAIN}") from error
    if not isinstance(values, dict):
        kind = type(values).__name__
        raise ValueError(f"{path} is not a JSON object: it is of type {kind}; {AGAIN}")
    return values


def foreign_entry_error(place: Path | str, what: str, error: Exception) -> ValueError:
    """Error for a file of another library whose entries are missing or wrong.

    Args:
        place: the file, or its folder.
        what: what its entries do not describe: "the width of a CLIP".
        error: one of :data:`ENTRY_ERRORS`.
    """
    reason = f"{type(error).__name__}: {error}"
    return ValueError(f"{place} does not describe {what} ({reason}); {AGAIN}")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Object of key-value pairs; a duplicate key is ambiguous and refused."""
    values = dict(pairs)
    if len(values) < len(pairs):
        names = [name for name, _ in pairs]
        duplicate = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"duplicate key {duplicate!r} in one object; remove one of them")
    return values


FORMATS = {
    "run": 1,
    "inputs": 1,
    "checkpoint": 2,
    "average snapshot": 1,
    "export": 1,
    "samples": 1,
    "latent cache": 1,
    "cache shard": 1,
    "image index": 1,
    "image table": 1,
    "import": 1,
    "study": 1,
    "results": 1,
    "autoencoder": 1,
    "autoencoder training": 1,
    "reference statistics": 1,
    "bench record": 1,
    "scaling record": 1,
    "plan met": 1,
}
"""Kind of file -> the version written, which is the newest version read."""
VERSION, CHECKSUM = "format", "content_sha256"


class FormatError(ValueError):
    """A file of a newer format version. Its folder must not be overwritten."""


def check_format(kind: str, version: Any, place: Path | str) -> int:
    """Check and return the version of a file.

    Args:
        kind: one of :data:`FORMATS`.
        version: the stated one; None = none stated. A string of digits in text-only files.
        place: the file, for the message.

    Raises:
        FormatError: the version is newer.
        ValueError: not a version.
    """
    if version is None:
        return 0
    stated = int(version) if isinstance(version, str) and version.isdecimal() else version
    if type(stated) is not int or stated < 0:
        raise ValueError(f"{place} is damaged: {VERSION} is {version!r}, not a version")
    if stated > FORMATS[kind]:
        raise FormatError(
            f"{place} was written by a newer pippin: {kind} format {stated}, this one reads up to "
            f"{FORMATS[kind]}; upgrade pippin"
        )
    return stated


def with_checksum(kind: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """JSON object with its version as the first entry and its checksum as the last."""
    content = {VERSION: FORMATS[kind], **values}
    plain = json.loads(json.dumps(content))  # keys become text before they are sorted
    return {**content, CHECKSUM: content_digest(plain)}


def write_versioned_json(path: Path, kind: str, values: Mapping[str, Any]) -> None:
    """Replace a file by JSON with version and checksum, which :func:`read_versioned_json` checks.

    Raises:
        FormatError: the earlier file is of a newer version; it stays.
        OSError: disk full or not writable; an earlier file stays.
    """
    refuse_newer(path, kind)
    write_text(path, json.dumps(with_checksum(kind, values), indent=2) + "\n")


def refuse_newer(path: Path, kind: str) -> None:
    """Refuse to replace a JSON file of a newer version; a missing or damaged one is no obstacle.

    Args:
        path: the file.
        kind: one of :data:`FORMATS`.

    Raises:
        FormatError: the version is newer.
    """
    try:
        values = parse_json(read_regular(path))
        check_format(kind, values.get(VERSION), path)
    except FormatError:
        raise
    except (OSError, ValueError, AttributeError):
        return


def read_versioned_json(path: Path, kind: str | None) -> dict[str, Any]:
    """JSON object of a file, without version and checksum; older files may lack both.

    Args:
        path: the file.
        kind: one of :data:`FORMATS`; None = unversioned; the checksum is still verified.

    Raises:
        FormatError: the version is newer.
        ValueError: not a JSON object, or the checksum differs; the message names the file.
        OSError: the file is missing or cannot be read.
    """
    try:
        values = parse_json(read_regular(path), unique=True)
    except ValueError as error:
        raise ValueError(f"{path} is not JSON: {error}") from error
    return check_versioned_json(values, kind, path)


def check_versioned_json(values: Any, kind: str | None, place: Path | str) -> dict[str, Any]:
    """Check values that were read already; see :func:`read_versioned_json`.

    Raises:
        FormatError, ValueError: as :func:`read_versioned_json`.
    """
    if not isinstance(values, dict):
        raise ValueError(f"{place} must hold a JSON object; got a {type(values).__name__}")
    if kind is not None:
        check_format(kind, values.get(VERSION), place)
    content = {name: value for name, value in values.items() if name != CHECKSUM}
    if values.get(CHECKSUM) not in (None, content_digest(content)):
        raise ValueError(
            f"{place} is damaged: its content does not match its checksum ({CHECKSUM}). Restore a "
            f"copy of it; if it was edited on purpose, remove its entry {CHECKSUM}"
        )
    if kind is not None:
        content.pop(VERSION, None)
    return content


def content_digest(values: Mapping[str, Any]) -> str:
    """SHA-256 of plain JSON values, independent of key order and whitespace."""
    text = json.dumps(values, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
