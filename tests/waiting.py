# SPDX-License-Identifier: Apache-2.0
"""Wait for a condition."""

import time
from collections.abc import Callable


def wait_for(
    there: Callable[[], object], lives: Callable[[], object] = lambda: True, seconds: int = 240
) -> None:
    """Return once ``there()`` is true.

    Raises:
        AssertionError: ``lives()`` is false before, or the time is over.
    """
    for _ in range(20 * seconds):
        if there():
            return
        assert lives(), "what it waits for has ended"
        time.sleep(0.05)
    raise AssertionError(f"nothing came within {seconds} seconds")
