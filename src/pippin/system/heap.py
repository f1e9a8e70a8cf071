# SPDX-License-Identifier: Apache-2.0
"""Heap of the process: freed memory that stays for the next step, instead of returning to the
system."""

import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import torch

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3
"""Parameters of glibc's ``mallopt`` (malloc.h)."""
LARGEST = 2**31 - 1
"""Bytes: smaller blocks are not mapped on their own, and as much free memory is kept."""
USUAL = {MMAP_THRESHOLD: 32 * 2**20, TRIM_THRESHOLD: 64 * 2**20}
"""Bytes that glibc itself arrives at once large blocks have been freed."""
VARIABLES = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES", "LD_PRELOAD")
"""Environment variables by which a user chooses thresholds or another allocator."""


@contextmanager
def retained_heap(device: torch.device) -> Iterator[bool]:
    """Keep freed memory of a CPU's tensors in the process, and return it on exit.

    Every step frees its activations and allocates them again. By default glibc returns them to the
    system in between, which then clears every page anew: up to a tenth of a step. Numbers do not
    change. Yields whether it applies: on Linux with glibc, for tensors in CPU memory, unless one
    of :data:`VARIABLES` is set.
    """
    libc = _glibc() if device.type == "cpu" else None
    if libc is None or any(name in os.environ for name in VARIABLES):
        yield False
        return
    for parameter, size in USUAL.items():
        if not libc.mallopt(parameter, LARGEST):  # an older glibc has a limit
            libc.mallopt(parameter, size)
    try:
        yield True
    finally:
        for parameter, size in USUAL.items():
            libc.mallopt(parameter, size)
        libc.malloc_trim(0)


def release_free_memory() -> None:
    """Give free memory of this process back to the system, where the C library can."""
    libc = _glibc()
    if libc is not None:
        libc.malloc_trim(0)


def _glibc() -> ctypes.CDLL | None:
    """The C library, if it is glibc."""
    if sys.platform != "linux":
        return None
    libc = ctypes.CDLL(None)
    return libc if hasattr(libc, "gnu_get_libc_version") and hasattr(libc, "mallopt") else None
