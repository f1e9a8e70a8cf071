# SPDX-License-Identifier: Apache-2.0
"""Regular files: the only ones that are read. A FIFO, a device or a socket can wait for ever."""

import io
import os
import stat
from pathlib import Path

_KINDS = {
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFDIR: "a folder",
}


class NotRegularError(OSError):
    """Something under a file's name that is no regular file.

    Args:
        path: its name.
        kind: what it is, as of :func:`file_kind`.
    """

    def __init__(self, path: Path, kind: str) -> None:
        super().__init__(f"{path} is {kind}, not a file")
        self.kind = kind


def file_kind(mode: int) -> str:
    """What a file is, by ``st_mode``: a file, a folder, a FIFO, a socket, a device."""
    return _KINDS.get(stat.S_IFMT(mode), "a file" if stat.S_ISREG(mode) else "no file")


def open_regular(path: Path) -> io.BufferedReader:
    """Open a regular file to read its bytes, links followed.

    Its kind is looked at before it is opened, for opening a device may do something, and again
    afterwards, without waiting: what the name leads to may have changed meanwhile.

    Raises:
        NotRegularError: a folder, a FIFO, a socket or a device.
        OSError: no such file, or the system does not let it be read.
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
