# SPDX-License-Identifier: Apache-2.0
"""A small tmpfs that can be filled."""

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

MEGABYTES = 32


class Disk:
    """A mounted file system that can be filled except for some bytes.

    Args:
        path: the mount point.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._ballast = path, path / "ballast"

    def fill(self, room: int) -> None:
        """Fill the disk except for ``room`` bytes, rounded down to whole blocks."""
        self._ballast.write_bytes(bytes(shutil.disk_usage(self._path).free - room))

    def empty(self) -> None:
        """Free the space again."""
        self._ballast.unlink(missing_ok=True)


@contextmanager
def small_disk(folder: Path) -> Iterator[Disk | None]:
    """Mount a tmpfs at a folder while the block runs; None if mounting is not permitted.

    It is unmounted with all its content, however the block ends.
    """
    try:
        yield Disk(folder) if _mount(folder) else None
    finally:
        # A second Ctrl-C must not leave the mount behind.
        previous = signal.signal(signal.SIGINT, signal.SIG_IGN)
        if os.path.ismount(folder):
            _unmount(folder)
        signal.signal(signal.SIGINT, previous)


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
