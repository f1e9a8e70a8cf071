# SPDX-License-Identifier: Apache-2.0
"""Rank and world size from torchrun's environment variables, without importing torch."""

import os
import sys
from typing import NoReturn


def get_world_size() -> int:
    """World size."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_rank0() -> bool:
    """Whether this process is rank 0."""
    return get_world_size() == 1 or os.environ.get("RANK", "0") == "0"


def exit_rank(code: int) -> NoReturn:
    """Exit this process after its work is done and its files are closed.

    With several ranks, exit without the interpreter's cleanup: a gloo thread that still releases
    the tensor of the last all-reduce would need the lock of an exiting interpreter and abort the
    process ("terminate called without an active exception") after a successful run.
    """
    if get_world_size() == 1:
        sys.exit(code)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
