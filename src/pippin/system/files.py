# SPDX-License-Identifier: Apache-2.0
"""Atomic file replacement: a file is complete or absent."""

import glob
import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pippin.system.fsync import sync
from pippin.system.regular_files import open_regular

TEMPORARY_SUFFIX = ".writing"
"""Suffix of the name of a file that is being written."""


@contextmanager
def atomic_write(path: Path, *, durable: bool = True) -> Iterator[Path]:
    """Yield a temporary path; when the block ends without error, that file becomes ``path``.

    Readers never see a half-written file. On any error, a full disk included, the temporary file
    is removed and an earlier file stays.

    Args:
        path: in an existing folder; replaced if it exists.
        durable: fsync the file before the rename, and the folder after it: needed to survive a
            power cut, not a kill.

    Raises:
        OSError: the file system's own error.
    """
    staging = path.with_name(f".{path.name}.{os.getpid()}{TEMPORARY_SUFFIX}")
    try:
        yield staging
        if durable:
            sync(staging)
        os.replace(staging, path)
    except BaseException as error:
        staging.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename in (None, str(staging)):
            error.filename = str(path)  # the name that the user knows
        raise
    if durable:
        sync(path.parent)


@contextmanager
def name_file_in_errors(path: Path) -> Iterator[None]:
    """Set this file name on file system errors of the block that name no file."""
    try:
        yield
    except OSError as error:
        error.filename = error.filename or str(path)
        raise


def write_bytes(path: Path, content: bytes) -> None:
    """Replace a file atomically; see :func:`atomic_write`."""
    with atomic_write(path) as staging:
        staging.write_bytes(content)


def write_text(path: Path, text: str) -> None:
    """Replace a file atomically, in UTF-8; see :func:`atomic_write`."""
    write_bytes(path, text.encode())


def write_json(path: Path, values: Any) -> None:
    """Replace a file atomically by indented JSON; see :func:`atomic_write`."""
    write_text(path, json.dumps(values, indent=2) + "\n")


def remove_temporary_files(folder: Path, name: str | None = None) -> None:
    """Remove temporary files that killed writers left in a folder, of one file or of all. Those of
    live processes of this machine stay. Call it only if no other machine writes there."""
    pattern = "*" if name is None else glob.escape(name)
    for path in folder.glob(f".{pattern}.[0-9]*{TEMPORARY_SUFFIX}"):
        if path.is_file() and not _is_being_written(path):
            path.unlink(missing_ok=True)


def _is_being_written(staging: Path) -> bool:
    """Whether the process id in the name belongs to another live process that may be pippin: the
    id of a killed writer may have been reused by another program."""
    number = staging.name.removesuffix(TEMPORARY_SUFFIX).rpartition(".")[2]
    if not number.isdecimal() or int(number) == os.getpid():
        return False
    try:
        os.kill(int(number), 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # of another user
        pass
    try:
        name = Path(f"/proc/{number}/comm").read_text(errors="replace")
    except OSError:  # no /proc, or the process has just ended
        return not Path("/proc/self").exists()
    return "python" in name or "pippin" in name


def list_names(folder: Path) -> set[str]:
    """Names in a folder, up to date even if another machine has just written them.

    A network file system caches for a while that a name was absent. Opening the folder asks the
    server again, for this list and for later lookups.

    Raises:
        OSError: no such folder.
    """
    return set(os.listdir(folder))


def file_digest(path: Path) -> str:
    """SHA-256 of a file as a hexadecimal string."""
    with open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
