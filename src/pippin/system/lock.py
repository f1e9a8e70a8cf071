# SPDX-License-Identifier: Apache-2.0
"""Lock files, held by one process at a time and opened without changing an existing file.

A ``flock`` lock belongs to the open file, which forked workers share with their parent: a worker
that outlives a killed parent would hold the parent's lock. So a forked child closes all locks.
"""

import errno
import fcntl
import os
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pippin.system.files import make_folder, name_file_in_errors

LOCK = ".lock"
"""Name of the lock file."""
NOT_A_FILE = {errno.ELOOP, errno.EMLINK, errno.ENXIO, errno.EISDIR, errno.EOPNOTSUPP}
"""Errors of opening a link (which is not followed), a socket or a folder."""
LOCKS_UNSUPPORTED = {errno.ENOTSUP, errno.ENOSYS, errno.EBADF, errno.EINVAL, errno.ENOLCK}
"""Errors of locking a folder on a file system without such locks."""

_opening = threading.Lock()
"""Held while a lock is opened and registered, and during each fork: no child misses one."""
_held: set[int] = set()


class FolderBusyError(ValueError):
    """Another process uses the folder."""


@contextmanager
def folder_lock(folder: Path) -> Iterator[None]:
    """Hold ``folder/.lock``; the system releases it when the process ends for any reason.

    Raises:
        FolderBusyError: another process holds it.
        ValueError: the lock's path is not a regular file.
    """
    make_folder(folder)
    path = folder / LOCK
    with _opening:
        descriptor = open_lock(path)
        _held.add(descriptor)
    with _holding(descriptor):
        try:
            with name_file_in_errors(path):
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise _busy(folder) from error
        yield


def is_locked(folder: Path) -> bool:
    """Whether a process holds ``folder/.lock``; creates no file.

    The test holds a shared lock for a moment, so a process that starts in that moment is refused.
    """
    try:
        descriptor = os.open(folder / LOCK, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # a file system without such locks
        return False
    finally:
        os.close(descriptor)
    return False


@contextmanager
def lock_directory(folder: Path) -> Iterator[None]:
    """Lock the folder itself, which leaves no file in it: for folders that are passed on.

    On a file system without such locks, nothing is held.

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
            if error.errno not in LOCKS_UNSUPPORTED:
                raise
        yield


@contextmanager
def share_directory(folder: Path) -> Iterator[None]:
    """Share a folder with other readers: :func:`lock_directory` of another process is refused
    meanwhile. Waits for a process that has locked it.

    On a file system without such locks, nothing is held.

    Raises:
        OSError: no such folder.
    """
    with _opening:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        _held.add(descriptor)
    with _holding(descriptor):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH)
        except OSError as error:
            if error.errno not in LOCKS_UNSUPPORTED:
                raise
        yield


@contextmanager
def _holding(descriptor: int) -> Iterator[None]:
    """Release and close a lock file when the body ends."""
    try:
        yield
    finally:
        if descriptor in _held:  # a forked child also leaves the body, and has closed it
            _held.remove(descriptor)
            # Closing alone keeps the lock if a forked child has not closed its copy yet.
            with suppress(OSError):
                fcntl.flock(descriptor, fcntl.LOCK_UN)
            os.close(descriptor)


def _busy(folder: Path) -> FolderBusyError:
    return FolderBusyError(
        f"{folder} is in use by another pippin process; wait for it, stop it, or choose another "
        "folder"
    )


def open_lock(path: Path) -> int:
    """Open or create a lock file without changing its content; links are not followed.

    Returns:
        File descriptor for reading and writing.

    Raises:
        ValueError: the path is a link, FIFO, device, socket or folder.
        OSError: the file cannot be created or opened.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        descriptor = os.open(path, flags, 0o666)
    except OSError as error:
        if error.errno in NOT_A_FILE:
            raise _not_a_lock_file(path) from error
        raise
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise _not_a_lock_file(path)
    return descriptor


def _not_a_lock_file(path: Path) -> ValueError:
    return ValueError(
        f"{path} is a link or a special file; a lock must be a regular file: remove it and run "
        "the command again"
    )


def _close_in_child() -> None:
    for descriptor in _held:
        os.close(descriptor)
    _held.clear()
    _opening.release()


os.register_at_fork(
    before=_opening.acquire, after_in_parent=_opening.release, after_in_child=_close_in_child
)
