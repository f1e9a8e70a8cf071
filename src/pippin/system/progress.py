# SPDX-License-Identifier: Apache-2.0
"""Progress of a task: a bar on a terminal, and lines in a log file.

Where standard error is no terminal, as under nohup, Slurm or in a pipe, a bar would show nothing
or leave control characters. There a task prints whole lines: at its first report, then every
:data:`SHORTEST` to :data:`LONGEST` seconds, and at its end.
"""

import time
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from functools import cache
from importlib.util import find_spec
from types import TracebackType
from typing import Protocol

from rich.console import Console

from pippin.system.output import lines_only, progress_hidden, progress_verbose
from pippin.system.rates import Facts, RateWindow, progress_text
from pippin.system.text import print_above_progress

SHORTEST, LONGEST = 10.0, 60.0
"""Seconds between two lines of a task, at its start and after an hour."""
GROWTH = 1 / 60
"""The interval is this share of the time so far, between the two bounds."""

Clock = Callable[[], float]
"""Seconds since any moment."""
ProgressCallback = Callable[[int, int], None]
"""Called with (units done, units in all)."""


def line_interval(elapsed: float) -> float:
    """Seconds until the next line of a task that has run for ``elapsed`` seconds."""
    return min(LONGEST, max(SHORTEST, GROWTH * elapsed))


def with_time(text: str) -> str:
    """Text after the local date and time."""
    return f"{datetime.now():%Y-%m-%d %H:%M:%S} {text}"


def prints_lines(console: Console) -> bool:
    """Whether tasks print lines on a console, because it is no terminal that can show a bar.

    A bar in a notebook is a widget, so a notebook without ipywidgets gets lines.
    """
    shows_bars = _has_widgets() if console.is_jupyter else console.is_interactive
    return lines_only() or not shows_bars


@cache
def _has_widgets() -> bool:
    return find_spec("ipywidgets") is not None


def print_event(console: Console, text: str) -> None:
    """Print what happened, with the time, where lines are printed; on a terminal only under
    ``--verbose``."""
    if not progress_hidden() and (prints_lines(console) or progress_verbose()):
        _print_line(console, text)


def _print_line(console: Console, text: str) -> None:
    with suppress(OSError):  # a log file without room must not end a run
        print_above_progress(console, with_time(text))


class _Display(Protocol):
    """One way to show a task."""

    def start(self) -> None: ...

    def report(self, force: bool) -> None: ...

    def stop(self, finished: bool) -> None: ...


class Progress:
    """Progress of a task; a context manager.

    Args:
        console: where it is shown; a quiet console, as of ranks other than 0, shows nothing.
        title: the task in a word or two.
        total: number of units; None = unknown until a report says it.
        unit: plural noun.
        done: units that an earlier process has done.
        brief: a task inside another one: lines appear only if it takes longer than
            :data:`SHORTEST`, and none at its end otherwise.
        each: print a line for each report, for tasks of few long units.
        resumes: the first report says what earlier processes have done.
        bar: show a bar on a terminal; False = nothing there, for a task around others with bars.
        shown: False = show nothing.
        clock: monotonic clock.
    """

    def __init__(
        self,
        console: Console,
        title: str,
        *,
        total: int | None = None,
        unit: str = "images",
        done: int = 0,
        brief: bool = False,
        each: bool = False,
        resumes: bool = False,
        bar: bool = True,
        shown: bool = True,
        clock: Clock = time.monotonic,
    ) -> None:
        self.console, self.title, self.unit = console, title, unit
        self.done, self.total = done, total
        self.brief, self.each, self.resumes = brief, each, resumes
        self.facts: Callable[[], Facts] = dict
        self._display: _Display | None = None
        if not shown or console.quiet or progress_hidden():
            return
        if prints_lines(console):
            self._display = _Lines(self, clock)
        elif bar:
            from pippin.system.progress_bar import Bar

            self._display = Bar(self)

    @property
    def is_bar(self) -> bool:
        """Whether a bar is shown, rather than lines or nothing."""
        return self._display is not None and not isinstance(self._display, _Lines)

    def __enter__(self) -> "Progress":
        """Start."""
        if self._display is not None:
            self._display.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop; after an error without a last line."""
        if self._display is not None:
            self._display.stop(error is None)

    def update(
        self,
        done: int,
        total: int | None = None,
        facts: Callable[[], Facts] | None = None,
        *,
        force: bool = False,
    ) -> None:
        """Report what is done.

        Args:
            done: number of units, those of earlier processes included.
            total: number of all units; None = as before.
            facts: called when they are shown; None = as before.
            force: print a line now.
        """
        self.done = done
        self.total = self.total if total is None else total
        self.facts = facts or self.facts
        if self._display is not None:
            self._display.report(force)

    def advance(self, count: int = 1) -> None:
        """Report further units."""
        self.update(self.done + count)


class _Lines:
    """Lines at intervals, each written at once."""

    def __init__(self, task: Progress, clock: Clock) -> None:
        self.task, self.clock = task, clock
        self._last: tuple[float, int] | None = None
        """Time and count of the newest line."""
        self._reported = False

    def start(self) -> None:
        self.started = self.clock()
        self.rate = RateWindow(self.started, self.task.done)

    def report(self, force: bool) -> None:
        now = self.clock()
        if self.task.resumes and not self._reported:
            self.rate = RateWindow(now, self.task.done)
        self._reported = True
        since = self.started if self._last is None else self._last[0]
        first = self._last is None and not self.task.brief
        if force or first or self.task.each or now - since >= line_interval(now - self.started):
            self._print(now)

    def stop(self, finished: bool) -> None:
        if finished and self._last is not None and self._last[1] != self.task.done:
            self._print(self.clock())

    def _print(self, now: float) -> None:
        task, self._last = self.task, (now, self.task.done)
        self.rate.add(now, task.done)
        text = progress_text(
            task.done, task.total, task.unit, self.rate, now - self.started, task.facts()
        )
        _print_line(task.console, f"{task.title}: {text}")
