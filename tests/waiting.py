# SPDX-License-Identifier: Apache-2.0
"""Wait for a condition."""

import time
from collections.abc import Callable


def wait_for(there: Callable[[], object], seconds: int = 240) -> None:
    """Return once ``there()`` is true."""
    for _ in range(20 * seconds):
        if there():
            return
        time.sleep(0.05)
    raise AssertionError(f"nothing came within {seconds} seconds")
