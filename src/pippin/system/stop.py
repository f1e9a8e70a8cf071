# SPDX-License-Identifier: Apache-2.0
"""Ctrl-C and SIGTERM: a training loop ends between two steps, all other work at once.

Either way what was finished is on the disk, and the same command goes on from there.
"""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType, TracebackType

STOPS = (int(signal.SIGTERM), int(signal.SIGINT))
"""The signals that ask for an end."""


class TrainingDivergedError(RuntimeError):
    """Too many non-finite steps in a row; the last good checkpoint stands."""


class TrainingStoppedError(Exception):
    """A signal asked the run to stop; a checkpoint was written first."""

    def __init__(self, signal: int, checkpoint: Path) -> None:
        super().__init__(f"stopped by signal {signal}; checkpoint {checkpoint} written")
        self.signal = signal


class StopRequest:
    """Inside ``with``, the first SIGINT or SIGTERM only sets :attr:`signal`; the second acts."""

    def __init__(self) -> None:
        self.signal: int | None = None
        self._previous: dict[int, object] = {}

    def __enter__(self) -> "StopRequest":
        for number in STOPS:
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
        if self.signal is not None:
            raise KeyboardInterrupt
        self.signal = number


@contextmanager
def sigterm_interrupts() -> Iterator[None]:
    """Inside ``with``, SIGTERM acts as Ctrl-C does: it raises KeyboardInterrupt."""

    def interrupt(number: int, _: FrameType | None) -> None:
        raise KeyboardInterrupt

    previous = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)
