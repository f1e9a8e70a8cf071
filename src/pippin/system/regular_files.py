# SPDX-License-Identifier: Apache-2.0
"""Reading of regular files only: a FIFO, a device or a socket could block for ever."""

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
