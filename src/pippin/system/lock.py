# SPDX-License-Identifier: Apache-2.0
"""One process at a time in a folder."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pippin.system.flush import make_folder

LOCK = ".lock"
"""Name of the file that is locked."""


class FolderBusyError(ValueError):
    """Another process works in the folder."""


@contextmanager
def folder_lock(folder: Path) -> Iterator[None]:
    """Hold ``folder/.lock``; the system frees it when the process ends, however it ends.

    Raises:
        FolderBusyError: another process holds it.
    """
    make_folder(folder)
    with (folder / LOCK).open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise FolderBusyError(
                f"{folder} is in use by another pippin process; wait for it, stop it, or choose "
                "another folder"
            ) from error
        yield
