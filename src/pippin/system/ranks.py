# SPDX-License-Identifier: Apache-2.0
"""What torchrun tells a process of itself, known before torch is imported."""

import os
import sys
from typing import NoReturn


def process_count() -> int:
    """How many processes were started together."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def first_process() -> bool:
    """Whether this is the process that speaks for all of them."""
    return process_count() == 1 or os.environ.get("RANK", "0") == "0"


def leave(code: int) -> NoReturn:
    """End this process when its work is done and its files are closed.

    One of several ends at once, without the interpreter's clearing up: a thread of gloo that still
    lets go of the tensor of the last sum would then want the lock of an interpreter that is going,
    and abort the process ("terminate called without an active exception") after all was well.
    """
    if process_count() == 1:
        sys.exit(code)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
