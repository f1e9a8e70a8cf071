# SPDX-License-Identifier: Apache-2.0
"""Files that are whole or absent: the one way in which pippin replaces a file."""

import glob
import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pippin.system.flush import sync
from pippin.system.regular import open_regular

STAGING_SUFFIX = ".writing"
"""Ends the name of a file that is being written."""


@contextmanager
def replacing(path: Path, *, durable: bool = True) -> Iterator[Path]:
    """Give a path to write to; when the block ends without error, that file becomes ``path``.

    So the file is never seen half-written. On any error, a full disk included, what was written
    is removed and an earlier file stays.

    Args:
        path: in an existing folder; replaced where it exists.
        durable: flush to the disk before the file gets its name, and the name too: needed to
            survive a power cut, not a kill.

    Raises:
        OSError: the file system's own error.
    """
    staging = path.with_name(f".{path.name}.{os.getpid()}{STAGING_SUFFIX}")
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
def naming(path: Path) -> Iterator[None]:
    """Where an error of the file system inside the block names no file, let it name this one."""
    try:
        yield
    except OSError as error:
        error.filename = error.filename or str(path)
        raise


def write_bytes(path: Path, content: bytes) -> None:
    """Replace a file whole; see :func:`replacing`."""
    with replacing(path) as staging:
        staging.write_bytes(content)


def write_text(path: Path, text: str) -> None:
    """Replace a file whole, in UTF-8; see :func:`replacing`."""
    write_bytes(path, text.encode())


def write_json(path: Path, values: Any) -> None:
    """Replace a file by indented JSON; see :func:`replacing`."""
    write_text(path, json.dumps(values, indent=2) + "\n")


def remove_staged(folder: Path, name: str | None = None) -> None:
    """Remove what killed writers left in a folder, of one file or of all: what a living process
    of this machine writes stays. Only where no process of another machine writes them."""
    which = "*" if name is None else glob.escape(name)
    for path in folder.glob(f".{which}.[0-9]*{STAGING_SUFFIX}"):
        if path.is_file() and not _is_being_written(path):
            path.unlink(missing_ok=True)


def _is_being_written(staging: Path) -> bool:
    """Whether the process that its name states is another one, alive, and may be of pippin: the
    number of a killed writer may be another program's by now."""
    number = staging.name.removesuffix(STAGING_SUFFIX).rpartition(".")[2]
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
    except OSError:  # no such file system, or it has just ended
        return not Path("/proc/self").exists()
    return "python" in name or "pippin" in name


def listed(folder: Path) -> set[str]:
    """The names in a folder, which another machine may have written a moment ago.

    A shared disk's client remembers for a while that a name was absent when it was looked up;
    opening the folder asks the server anew, for this list and for what is looked up afterwards.

    Raises:
        OSError: no such folder.
    """
    return set(os.listdir(folder))


def file_digest(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal digits."""
    with open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
