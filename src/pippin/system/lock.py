# SPDX-License-Identifier: Apache-2.0
"""Lock files: opened without harm to what stands at their place, and held by one process.

A lock of ``flock`` belongs to the open file, which forked workers share with their parent: one
that outlives a killed parent would hold the parent's lock. So a forked child closes all of them.
"""

import errno
import fcntl
import os
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pippin.system.files import naming
from pippin.system.flush import make_folder

LOCK = ".lock"
"""Name of the file that is locked."""
NO_FILE = {errno.ELOOP, errno.EMLINK, errno.ENXIO, errno.EISDIR, errno.EOPNOTSUPP}
"""What opening a link (which is not followed), a socket or a folder gives."""
NO_LOCKS = {errno.ENOTSUP, errno.ENOSYS, errno.EBADF, errno.EINVAL, errno.ENOLCK}
"""What locking a folder gives where the file system has no locks of folders."""

_opening = threading.Lock()
"""Held while a lock is opened and noted, and by each fork: no child misses one."""
_held: set[int] = set()


class FolderBusyError(ValueError):
    """Another process works in the folder."""


@contextmanager
def folder_lock(folder: Path) -> Iterator[None]:
    """Hold ``folder/.lock``; the system frees it when the process ends, however it ends.

    Raises:
        FolderBusyError: another process holds it.
        ValueError: no regular file stands at its place.
    """
    make_folder(folder)
    path = folder / LOCK
    with _opening:
        descriptor = open_lock(path)
        _held.add(descriptor)
    with _holding(descriptor):
        try:
            with naming(path):
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise _busy(folder) from error
        yield


@contextmanager
def folder_itself_locked(folder: Path) -> Iterator[None]:
    """Hold a lock of the folder itself, which leaves no file in it: of one that is handed on.

    Where a file system has no such locks, nothing is held.

    Raises:
        FolderBusyError: another process holds it.
        OSError: no such folder.
    """
    with _opening:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        _held.add(descriptor)
    with _holding(descriptor):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise _busy(folder) from error
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise
        yield


@contextmanager
def _holding(descriptor: int) -> Iterator[None]:
    """Free and close a lock file when the body ends."""
    try:
        yield
    finally:
        if descriptor in _held:  # a forked child, which leaves the body too, has closed it
            _held.remove(descriptor)
            # Closing would not do where a child was forked and has not closed its own yet.
            with suppress(OSError):
                fcntl.flock(descriptor, fcntl.LOCK_UN)
            os.close(descriptor)


def _busy(folder: Path) -> FolderBusyError:
    return FolderBusyError(
        f"{folder} is in use by another pippin process; wait for it, stop it, or choose another "
        "folder"
    )


def open_lock(path: Path) -> int:
    """Open or make a lock file and leave its content as it is; links are not followed.

    Returns:
        A descriptor for reading and writing.

    Raises:
        ValueError: a link, FIFO, device, socket or folder stands there.
        OSError: it cannot be made or opened.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        descriptor = os.open(path, flags, 0o666)
    except OSError as error:
        if error.errno in NO_FILE:
            raise _no_lock(path) from error
        raise
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise _no_lock(path)
    return descriptor


def _no_lock(path: Path) -> ValueError:
    return ValueError(
        f"{path} is a link or another kind of file; a lock must be a regular file of its own: "
        "remove it and give the same command again"
    )


def _close_in_child() -> None:
    for descriptor in _held:
        os.close(descriptor)
    _held.clear()
    _opening.release()


os.register_at_fork(
    before=_opening.acquire, after_in_parent=_opening.release, after_in_child=_close_in_child
)
