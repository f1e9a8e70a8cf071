# SPDX-License-Identifier: Apache-2.0
"""fsync of files and folders, so that written data survives a power cut.

A file's content and its name are stored separately: a name may reach the disk before the content,
which leaves an empty file, or the content before the name, which leaves none. So a record that
declares other files complete is written after those files and their folders were synced.
"""

import ctypes
import errno
import os
from pathlib import Path

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
