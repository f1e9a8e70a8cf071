# SPDX-License-Identifier: Apache-2.0
"""Rank, world size and restarts from the environment, without importing torch."""

import os
import sys
from typing import NoReturn


def get_world_size() -> int:
    """World size."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_rank0() -> bool:
    """Whether this process is rank 0."""
    return get_world_size() == 1 or os.environ.get("RANK", "0") == "0"


RESTARTS = {"TORCHELASTIC_MAX_RESTARTS": "torchrun", "SLURM_RESTART_COUNT": "Slurm"}
"""Environment variable, above 0 where a launcher repeats the command -> the launcher.

torchrun repeats it with ``--max-restarts``, Slurm in a job that it has requeued. torchrun's own
number of restarts is not read: it counts those of one machine, while ranks on all machines are
restarted together."""


def restarting_launcher() -> str | None:
    """Name of the launcher that repeats this command after an interruption; None = nobody does."""
    for variable, launcher in RESTARTS.items():
        count = os.environ.get(variable, "")
        if count.isdecimal() and int(count) > 0:
            return launcher
    return None


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
