# SPDX-License-Identifier: Apache-2.0
"""Waiting until the disk has what was written, so that a power cut cannot take it.

A file's content and its name are two things: a name may reach the disk before the content, which
leaves an empty file, and the content before the name, which leaves none. So whatever says that
other files are whole is written after these were flushed, with the folders that hold their names.
"""

import ctypes
import errno
import os
from pathlib import Path

CANNOT_FLUSH = {errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EBADF, errno.ENOSYS}
"""What a file system says that cannot flush a folder (some of SMB, FUSE and object stores)."""


def sync(path: Path) -> None:
    """Wait until the disk has a file, or the names in a folder.

    A folder on a file system that cannot flush folders is passed over, as databases do.

    Raises:
        OSError: the file system's own error.
    """
    try:
        _sync(path)
    except OSError as error:
        refused = error.errno in {*CANNOT_FLUSH, errno.EACCES, errno.EPERM, errno.EISDIR}
        if not (refused and path.is_dir()):
            raise


def sync_tree(folder: Path) -> None:
    """Wait until the disk has all that is below a folder, and all names in it.

    One order to the file system where there is one: for thousands of small files that is many
    times faster than one for each, but it also writes what other programs left to be written.

    Raises:
        OSError: the file system's own error.
    """
    if _sync_file_system(folder):
        return
    for place, _, names in os.walk(folder):
        for name in names:
            sync(Path(place) / name)
        sync(Path(place))


def make_folder(path: Path) -> None:
    """Make a folder and those above it, unless they exist, and wait until the disk has them.

    Raises:
        OSError: the file system's own error.
    """
    missing = [one for one in (path, *path.parents) if not one.exists()]
    path.mkdir(parents=True, exist_ok=True)
    for one in missing:
        sync(one.parent)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sync_file_system(folder: Path) -> bool:
    """Flush the whole file system that a folder is on; False where the system has no such call."""
    syncfs = getattr(ctypes.CDLL(None, use_errno=True), "syncfs", None)
    if syncfs is None:
        return False
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        if syncfs(descriptor) == 0:
            return True
    finally:
        os.close(descriptor)
    number = ctypes.get_errno()
    if number in CANNOT_FLUSH:
        return False
    raise OSError(number, os.strerror(number), str(folder))
