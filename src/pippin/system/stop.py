# SPDX-License-Identifier: Apache-2.0
"""Ctrl-C, SIGTERM and SIGUSR2: a training loop ends between two steps, all other work at once.

Either way what was finished is on the disk, and the same command goes on from there. SIGUSR2 is
what clusters send some time before a job's limit.
"""

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType, TracebackType

STOPS = (int(signal.SIGTERM), int(signal.SIGINT), int(signal.SIGUSR2))
"""The signals that ask for an end."""
SAME_ORDER = {int(signal.SIGTERM): 20.0, int(signal.SIGUSR2): 20.0, int(signal.SIGINT): 1.0}
"""Seconds after the first signal in which another one is the same order: a cluster signals every
process of a job, and torchrun and a job's script each hand it on. Who presses Ctrl-C again means
at once."""


class TrainingDivergedError(RuntimeError):
    """Too many non-finite steps in a row; the last good checkpoint stands."""


class TrainingStoppedError(Exception):
    """A signal asked the run to stop; a checkpoint was written first."""

    def __init__(self, signal: int, checkpoint: Path) -> None:
        super().__init__(f"stopped by signal {signal}; checkpoint {checkpoint} written")
        self.signal = signal


def in_main_thread() -> bool:
    """Whether the caller may install signal handlers."""
    return threading.current_thread() is threading.main_thread()


class StopRequest:
    """Inside ``with``, the first of these signals only sets :attr:`signal`, and so does one that
    is the same order once more (:data:`SAME_ORDER`); a later one raises KeyboardInterrupt.

    In a thread that is not the main one it changes nothing: Python lets only the main thread
    install handlers, and runs them only there."""

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
def signals_interrupt() -> Iterator[None]:
    """Inside ``with``, the other signals act as Ctrl-C does: they raise KeyboardInterrupt, with
    their number as its argument. As :class:`StopRequest`, it acts in the main thread alone."""

    def interrupt(number: int, _: FrameType | None) -> None:
        raise KeyboardInterrupt(number)

    others = [n for n in STOPS if n != signal.SIGINT] if in_main_thread() else []
    previous = {number: signal.signal(number, interrupt) for number in others}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def leave_stops_to_the_parent(_: int = 0) -> None:
    """In a process that loads data: go on when a signal comes that was meant for all.

    A cluster, torchrun or a terminal signals every process of a job. A loader that dies of it
    takes the training down before that has written its checkpoint. So signals end this process
    only where its parent sends SIGTERM; and it ends with its parent, as all loaders do.

    Args:
        _: the loader's number, which PyTorch gives.
    """
    if not hasattr(signal, "sigwaitinfo"):  # macOS: as PyTorch leaves it
        return
    signal.pthread_sigmask(signal.SIG_BLOCK, STOPS)
    threading.Thread(target=_watch_for_the_parent, daemon=True).start()


def _watch_for_the_parent() -> None:
    while True:
        heard = signal.sigwaitinfo(STOPS)
        if heard.si_signo == signal.SIGTERM and heard.si_pid == os.getppid():
            os._exit(0)
