# SPDX-License-Identifier: Apache-2.0
"""What torchrun tells a process of itself, known before torch is imported."""

import os


def process_count() -> int:
    """How many processes were started together."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def first_process() -> bool:
    """Whether this is the process that speaks for all of them."""
    return process_count() == 1 or os.environ.get("RANK", "0") == "0"
