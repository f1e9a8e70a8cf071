# SPDX-License-Identifier: Apache-2.0
"""Folder of the code that torch.compile makes, so that the next process loads it."""

import hashlib
import os
import platform
from pathlib import Path

import torch

from pippin.system.device import cpu_capabilities

VARIABLE = "TORCHINDUCTOR_CACHE_DIR"
"""Environment variable of Inductor's folder; torch sets it too, at its first compilation."""
PREFIX = "compiled-"
"""Start of the folder's name; the rest identifies the CPU."""


def keep_compiled_code(caches: Path) -> Path | None:
    """Let Inductor and AOTAutograd keep compiled code below the folder of caches.

    By default it lies in the folder of temporary files, which many systems clear. The code is for
    one CPU model, and torch does not check that: each model has its own folder.

    Returns:
        The folder; None if the environment, or an earlier compilation, has chosen another one, or
        if it cannot be written.
    """
    folder = caches.absolute() / f"{PREFIX}{_cpu_key()}"
    if os.environ.get(VARIABLE, str(folder)) != str(folder):
        return None
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return None
    if not os.access(folder, os.W_OK):
        return None
    os.environ[VARIABLE] = str(folder)
    return folder


def _cpu_key() -> str:
    """Short name of the CPU's instruction sets."""
    sets = sorted(name for name, value in cpu_capabilities().items() if value is True)
    parts = (platform.machine(), torch.backends.cpu.get_cpu_capability(), *sets)
    return hashlib.sha256(" ".join(parts).encode()).hexdigest()[:8]
