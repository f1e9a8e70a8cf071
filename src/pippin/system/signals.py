# SPDX-License-Identifier: Apache-2.0
"""Signals: how a run stops, and a watchdog for native code that does not respond.

Ctrl-C, SIGTERM and SIGUSR2 stop a training loop between two steps, and all other work at once. In
both cases finished work is on disk, and the same command resumes it. Clusters send SIGUSR2 some
time before a job's limit.

Python runs signal handlers in the main thread, between two bytecode instructions. A library that
waits in native code for a slow store delays them for minutes. Everything pippin writes survives a
kill at any moment, so such a process is exited within seconds.
"""

import math
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

STOPS = (int(signal.SIGTERM), int(signal.SIGINT), int(signal.SIGUSR2))
"""Signals that request a stop."""
SAME_ORDER = {int(signal.SIGTERM): 20.0, int(signal.SIGUSR2): 20.0, int(signal.SIGINT): 1.0}
"""Seconds after the first signal in which another one repeats the same request: a cluster signals
every process of a job, and torchrun and the job's script each forward it. A second Ctrl-C means
at once."""


class TrainingDivergedError(RuntimeError):
    """Too many non-finite steps in a row; the last intact checkpoint stays."""


class TrainingStoppedError(Exception):
    """A signal requested a stop; a checkpoint was written first."""

    def __init__(self, signal: int, checkpoint: Path) -> None:
        super().__init__(f"stopped by signal {signal}; checkpoint {checkpoint} written")
        self.signal = signal


def in_main_thread() -> bool:
    """Whether the caller may install signal handlers."""
    return threading.current_thread() is threading.main_thread()


class StopRequest:
    """Inside ``with``, the first of these signals only sets :attr:`signal`. A repetition of the
    request (:data:`SAME_ORDER`) has no effect; a later signal raises KeyboardInterrupt.

    Outside the main thread it does nothing: Python installs and runs handlers only there."""

    def __init__(self) -> None:
        self.signal: int | None = None
        self._since = 0.0
        self._previous: dict[int, object] = {}

    def __enter__(self) -> "StopRequest":
        for number in STOPS if in_main_thread() else ():
            self._previous[number] = signal.signal(number, self._remember)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _remember(self, number: int, _: FrameType | None) -> None:
        now = time.monotonic()
        if self.signal is None:
            self.signal, self._since = number, now
        elif now - self._since > SAME_ORDER[number]:
            raise KeyboardInterrupt(number)


@contextmanager
def signals_interrupt(*, keep_handlers: bool = False) -> Iterator[None]:
    """Inside ``with``, the other signals act like Ctrl-C: they raise KeyboardInterrupt with their
    number as its argument. Effective in the main thread only, as :class:`StopRequest`.

    Args:
        keep_handlers: leave a signal alone that the program handles or ignores.
    """

    def interrupt(number: int, _: FrameType | None) -> None:
        raise KeyboardInterrupt(number)

    others = [n for n in STOPS if n != signal.SIGINT] if in_main_thread() else []
    if keep_handlers:
        others = [number for number in others if signal.getsignal(number) is signal.SIG_DFL]
    previous = {number: signal.signal(number, interrupt) for number in others}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def ignore_signals_in_worker(_: int = 0) -> None:
    """Ignore stop signals in a data-loading process.

    A cluster, torchrun or a terminal signals every process of a job. A loader that died of it
    would take the training down before its checkpoint is written. So signals end this process
    only if its parent sends SIGTERM; like all loaders, it also ends with its parent.

    Args:
        _: the worker id, passed by PyTorch.
    """
    if not hasattr(signal, "sigwaitinfo"):  # macOS: PyTorch's own behaviour
        return
    signal.pthread_sigmask(signal.SIG_BLOCK, STOPS)
    threading.Thread(target=_exit_on_signal_of_parent, daemon=True).start()


def _exit_on_signal_of_parent() -> None:
    while True:
        received = signal.sigwaitinfo(STOPS)
        if received.si_signo == signal.SIGTERM and received.si_pid == os.getppid():
            os._exit(0)


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
