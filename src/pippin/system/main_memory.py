# SPDX-License-Identifier: Apache-2.0
"""Main memory of the machine, or of the control group that limits this process; errors of full
memory, of the CPU and of devices."""

import os
from collections.abc import Iterator
from pathlib import Path

CONTROL_GROUPS = Path("/sys/fs/cgroup")
OWN_GROUPS = Path("/proc/self/cgroup")
FULL_MEMORY = ("out of memory", "not enough memory", "can't allocate memory")
"""Words of PyTorch in a RuntimeError."""


def main_memory() -> int | None:
    """Bytes of CPU memory that this process may use with all others of its control group; None
    where the system does not tell."""
    try:
        machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError, AttributeError):
        return None
    return min([machine, *_group_limits()])


def _group_limits() -> Iterator[int]:
    """Limits of this process's control group and of those above it, as Slurm and containers set
    them; version 2 of control groups only."""
    try:
        lines = OWN_GROUPS.read_text().splitlines()
    except (OSError, ValueError):
        return
    own = next((line.removeprefix("0::/") for line in lines if line.startswith("0::/")), None)
    if own is None:
        return
    folder = CONTROL_GROUPS / own
    for group in (folder, *folder.parents):
        try:
            yield int((group / "memory.max").read_text())
        except (OSError, ValueError):  # none, or "max"
            continue


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory of the CPU or of a device was full."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return isinstance(error, RuntimeError) and any(text in str(error) for text in FULL_MEMORY)
