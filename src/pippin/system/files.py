# SPDX-License-Identifier: Apache-2.0
"""Files: atomic replacement, fsync, and reading of regular files only.

fsync keeps written data through a power cut. A file's content and its name are stored separately:
a name may reach the disk before the content, which leaves an empty file, or the content before the
name, which leaves none. So a record that declares other files complete is written after those
files and their folders were synced.
"""

import ctypes
import errno
import glob
import hashlib
import io
import json
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

SYNC_UNSUPPORTED = {errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EBADF, errno.ENOSYS}
"""Errors of file systems that cannot sync a folder (some of SMB, FUSE and object stores)."""


def sync(path: Path) -> None:
    """fsync a file, or the names in a folder.

    A folder on a file system that cannot sync folders is skipped, as databases do.

    Raises:
        OSError: the file system's own error.
    """
    try:
        _sync(path)
    except OSError as error:
        refused = error.errno in {*SYNC_UNSUPPORTED, errno.EACCES, errno.EPERM, errno.EISDIR}
        if not (refused and path.is_dir()):
            raise


def sync_tree(folder: Path) -> None:
    """fsync everything below a folder, names included.

    One ``syncfs`` call where the system has it: for thousands of small files that is many times
    faster than one fsync each, but it also flushes the writes of other programs.

    Raises:
        OSError: the file system's own error.
    """
    if _sync_file_system(folder):
        return
    for parent, _, names in os.walk(folder):
        for name in names:
            sync(Path(parent) / name)
        sync(Path(parent))


def make_folder(path: Path) -> None:
    """Create a folder and missing parents, and fsync the new names.

    Raises:
        OSError: the file system's own error.
    """
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    path.mkdir(parents=True, exist_ok=True)
    for folder in missing:
        sync(folder.parent)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sync_file_system(folder: Path) -> bool:
    """Sync the file system of a folder; False if the system has no such call."""
    syncfs = getattr(ctypes.CDLL(None, use_errno=True), "syncfs", None)
    if syncfs is None:
        return False
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        if syncfs(descriptor) == 0:
            return True
    finally:
        os.close(descriptor)
    code = ctypes.get_errno()
    if code in SYNC_UNSUPPORTED:
        return False
    raise OSError(code, os.strerror(code), str(folder))


_KINDS = {
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFDIR: "a folder",
}


class NotRegularError(OSError):
    """A path is not a regular file.

    Args:
        path: the path.
        kind: its type, as :func:`file_kind` names it.
    """

    def __init__(self, path: Path, kind: str) -> None:
        super().__init__(f"{path} is {kind}, not a file")
        self.kind = kind


def file_kind(mode: int) -> str:
    """Type of a file by ``st_mode``: a file, a folder, a FIFO, a socket, a device."""
    return _KINDS.get(stat.S_IFMT(mode), "a file" if stat.S_ISREG(mode) else "no file")


def open_regular(path: Path) -> io.BufferedReader:
    """Open a regular file to read its bytes, following links.

    Its type is checked before opening, because opening a device may have effects, and again after
    a non-blocking open: the path's target may have changed in between.

    Raises:
        NotRegularError: a folder, a FIFO, a socket or a device.
        OSError: no such file, or no permission to read it.
    """
    _refuse_special(os.stat(path), path)
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    try:
        _refuse_special(os.fstat(descriptor), path)
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def read_regular(path: Path) -> bytes:
    """All bytes of a regular file.

    Raises:
        NotRegularError, OSError: as :func:`open_regular`.
    """
    with open_regular(path) as file:
        return file.read()


def _refuse_special(status: os.stat_result, path: Path) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise NotRegularError(path, file_kind(status.st_mode))


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
