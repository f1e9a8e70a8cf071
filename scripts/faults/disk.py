# SPDX-License-Identifier: Apache-2.0
"""A small disk of its own, to be filled."""

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

MEGABYTES = 32


class Disk:
    """A mounted file system, of which all but some bytes can be taken.

    Args:
        path: where it is mounted.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._ballast = path, path / "ballast"

    def fill(self, room: int) -> None:
        """Leave so many bytes, rounded down to whole blocks."""
        self._ballast.write_bytes(bytes(shutil.disk_usage(self._path).free - room))

    def empty(self) -> None:
        """Give the room back."""
        self._ballast.unlink(missing_ok=True)


@contextmanager
def small_disk(folder: Path) -> Iterator[Disk | None]:
    """A tmpfs at a folder while the block runs; None where this process may not mount one.

    It is unmounted however the block ends, with all that it holds.
    """
    try:
        yield Disk(folder) if _mount(folder) else None
    finally:
        # A second Ctrl-C must not leave the mount behind.
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
        if os.path.ismount(folder):
            _unmount(folder)
        signal.signal(signal.SIGINT, before)


def _mount(folder: Path) -> bool:
    size = f"size={MEGABYTES}m"
    try:
        command = ["mount", "-t", "tmpfs", "-o", size, "pippin-faults", str(folder)]
        return subprocess.run(command, capture_output=True).returncode == 0
    except FileNotFoundError:  # a system without mount
        return False


def _unmount(folder: Path) -> None:
    if subprocess.run(["umount", str(folder)], capture_output=True).returncode != 0:
        # Some process still has a file open; the mount goes when that one ends.
        subprocess.run(["umount", "--lazy", str(folder)], check=True)
