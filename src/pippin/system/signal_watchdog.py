# SPDX-License-Identifier: Apache-2.0
"""Exit within seconds when native code keeps Python from handling a signal.

Python runs signal handlers in the main thread, between two bytecode instructions. A library that
waits in native code for a slow store delays them for minutes. Everything pippin writes survives a
kill at any moment, so such a process is exited at once.
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

from pippin.system.signals import STOPS

HANDLER_TIMEOUT = 3.0
"""Seconds after which an unhandled signal counts as stuck."""
CLOCK_TOLERANCE = 0.5
"""Seconds by which a handler may run before the watcher thread sees its signal."""

Handler = Callable[[int, FrameType | None], Any]


@contextmanager
def exit_when_stuck(
    exit_process: Callable[[], None], timeout: float = HANDLER_TIMEOUT
) -> Iterator[None]:
    """Inside ``with``, call a function if a signal's handler has not run in time.

    It has no effect outside the main thread, on ignored signals, and while the body has its own
    handlers, as a training loop does, whose steps may be long.

    Args:
        exit_process: called in another thread; it ends the process.
        timeout: in seconds.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    wrapped: dict[int, Handler] = {}
    last_handled = [-math.inf]
    before = {number: signal.getsignal(number) for number in STOPS}
    for number, handler in before.items():
        if callable(handler):
            wrapped[number] = _recording(last_handled, handler)
            signal.signal(number, wrapped[number])
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    wakeup = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)

    def watch() -> None:
        while numbers := os.read(reading, 1):
            received = time.monotonic()
            if _is_active(numbers[0], wrapped):
                time.sleep(timeout)
                if _is_active(numbers[0], wrapped) and (
                    last_handled[0] < received - CLOCK_TOLERANCE
                ):
                    exit_process()
        os.close(reading)

    threading.Thread(target=watch, daemon=True).start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(wakeup)
        for number in wrapped:
            signal.signal(number, before[number])
        os.close(writing)


def _is_active(number: int, wrapped: dict[int, Handler]) -> bool:
    return number in wrapped and signal.getsignal(number) is wrapped[number]


def _recording(last_handled: list[float], handler: Handler) -> Handler:
    def record(number: int, frame: FrameType | None) -> None:
        last_handled[0] = time.monotonic()
        handler(number, frame)

    return record
