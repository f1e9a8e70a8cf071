# SPDX-License-Identifier: Apache-2.0
"""An end within seconds, where native code keeps Python from hearing a signal.

Python runs signal handlers in the main thread, between two of its own instructions. A library that
waits in native code for a slow store keeps it from that, for minutes. All that pippin writes can
be killed at any moment, so such a process is left at once.
"""

import math
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from pippin.system.stop import STOPS

PATIENCE = 3.0
"""Seconds in which the main thread comes to run a handler, if it comes to it at all."""
LATE = 0.5
"""Seconds by which a handler may have run before the other thread knows of its signal."""

Handler = Callable[[int, FrameType | None], Any]


@contextmanager
def leave_when_stuck(leave: Callable[[], None], patience: float = PATIENCE) -> Iterator[None]:
    """Inside ``with``, call a function where a signal's handler has not been run in time.

    It has no effect outside the main thread, on signals that are ignored, and while the body has
    handlers of its own, as a training loop does, whose steps may be long.

    Args:
        leave: called in another thread; it ends the process.
        patience: in seconds.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    ours: dict[int, Handler] = {}
    last_heard = [-math.inf]
    before = {number: signal.getsignal(number) for number in STOPS}
    for number, handler in before.items():
        if callable(handler):
            ours[number] = _noting(last_heard, handler)
            signal.signal(number, ours[number])
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    wakeup = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)

    def watch() -> None:
        while numbers := os.read(reading, 1):
            came = time.monotonic()
            if _is_ours(numbers[0], ours):
                time.sleep(patience)
                if _is_ours(numbers[0], ours) and last_heard[0] < came - LATE:
                    leave()
        os.close(reading)

    threading.Thread(target=watch, daemon=True).start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(wakeup)
        for number in ours:
            signal.signal(number, before[number])
        os.close(writing)


def _is_ours(number: int, ours: dict[int, Handler]) -> bool:
    return number in ours and signal.getsignal(number) is ours[number]


def _noting(last_heard: list[float], handler: Handler) -> Handler:
    def note(number: int, frame: FrameType | None) -> None:
        last_heard[0] = time.monotonic()
        handler(number, frame)

    return note
