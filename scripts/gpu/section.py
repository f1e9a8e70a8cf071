# SPDX-License-Identifier: Apache-2.0
"""Sections of a check: tasks that yield rows, within a budget of time."""

import gc
import math
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch

Status = Literal["measured", "partial", "failed", "skipped"]
SizeChoice = Literal["xl", "tiny"]
GRACE = 0.1
"""Share of all minutes by which a task that has begun may pass the end of its section."""
REPEAT = 5.0
"""Seconds after which an alarm that a library caught is raised again."""


class TimeLimitError(Exception):
    """A task ran past its time limit."""


class SectionSkippedError(Exception):
    """A section cannot be measured here; the message says why."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Options of one check."""

    device: torch.device
    size: SizeChoice
    minutes: float
    compiled: bool
    """Also measure compiled blocks."""
    asked: frozenset[str] = frozenset()
    """Sections that the user named."""
    study_folder: Path
    """Folder of the study, which a later call resumes."""

    @property
    def is_xl(self) -> bool:
        """Whether published sizes are measured."""
        return self.size == "xl"

    @property
    def is_cuda(self) -> bool:
        """Whether the device is a CUDA GPU."""
        return self.device.type == "cuda"


@dataclass(frozen=True, kw_only=True)
class Task:
    """One measurement of a section: its rows count even if a later one fails."""

    name: str
    run: Callable[[], Iterator[Any]]
    """Yields rows, each an instance of a dataclass."""


@dataclass(frozen=True, kw_only=True)
class Failure:
    """Task that raised."""

    task: str
    message: str
    out_of_time: bool = False


@dataclass(frozen=True, kw_only=True)
class SectionResult:
    """Rows of a section, and the tasks without rows."""

    name: str
    seconds: float
    rows: tuple[Any, ...] = ()
    failures: tuple[Failure, ...] = ()
    skipped: tuple[str, ...] = ()
    """Tasks that the budget left no time for."""
    message: str = ""
    """Why the whole section was skipped."""

    @property
    def status(self) -> Status:
        """One word for the table."""
        if any(not failure.out_of_time for failure in self.failures):
            return "failed"
        left_out = bool(self.skipped or self.failures or self.message)
        if left_out:
            return "partial" if self.rows else "skipped"
        return "measured"

    @property
    def outside(self) -> tuple[Any, ...]:
        """Rows whose number is outside its tolerance."""
        return tuple(row for row in self.rows if not getattr(row, "within", True))


@dataclass(frozen=True, kw_only=True)
class Toleranced:
    """Row of a number with the largest allowed value."""

    error: float
    tolerance: float

    @property
    def within(self) -> bool:
        """Whether the number is allowed; one that is not finite is not."""
        return self.error <= self.tolerance


@dataclass(frozen=True, kw_only=True)
class Section:
    """Section of a check."""

    name: str
    share: float
    """Share of the minutes; what a section leaves goes to those after it."""
    tasks: Callable[["Context"], Iterable[Task]]


@dataclass(kw_only=True)
class Context:
    """Settings, results so far, and the end of the current section."""

    settings: Settings
    folder: Path
    """Temporary folder."""
    clock: Callable[[], float] = time.monotonic
    results: list[SectionResult] = field(default_factory=list)
    end: float = math.inf
    """Time by which the check must end."""
    fitted: dict[tuple[str, int], int] = field(default_factory=dict)
    """(denoiser, checkpointing) -> batch size that fitted."""

    def rows(self, section: str) -> list[Any]:
        """Rows of an earlier section; empty if it has none."""
        return [row for result in self.results if result.name == section for row in result.rows]

    @property
    def seconds_left(self) -> float:
        """Seconds until the end of the check."""
        return self.end - self.clock()


def run_sections(
    sections: Sequence[Section], context: Context, done: Callable[[SectionResult], None]
) -> None:
    """Run sections in order; a failure is recorded and the next task goes on.

    Args:
        sections: the sections; their shares are scaled to fill the minutes.
        context: gets the results.
        done: called after each section.
    """
    start, seconds = context.clock(), 60 * context.settings.minutes
    context.end = start + seconds
    total, passed = sum(section.share for section in sections), 0.0
    for section in sections:
        passed += section.share
        result = run_section(section, context, start + seconds * passed / total)
        context.results.append(result)
        done(result)


def run_section(section: Section, context: Context, limit: float) -> SectionResult:
    """Run the tasks of a section that begin before its limit.

    Args:
        section: the section.
        context: time and earlier results.
        limit: time after which no task begins.
    """
    start = context.clock()
    rows: list[Any] = []
    failures: list[Failure] = []
    skipped: list[str] = []
    message = ""
    hard = min(context.end, limit + GRACE * 60 * context.settings.minutes)
    try:
        for task in section.tasks(context):
            if context.clock() >= limit:
                skipped.append(task.name)
                continue
            failure = _run_task(task, rows, hard - context.clock())
            failures += [] if failure is None else [failure]
            release_memory(context.settings.device)
    except SectionSkippedError as error:
        message = str(error)
    except Exception as error:
        failures.append(Failure(task=section.name, message=describe(error)))
    return SectionResult(
        name=section.name,
        seconds=context.clock() - start,
        rows=tuple(rows),
        failures=tuple(failures),
        skipped=tuple(skipped),
        message=message,
    )


def _run_task(task: Task, rows: list[Any], seconds: float) -> Failure | None:
    """Collect the rows of a task; the failure if it raised."""
    try:
        with time_limit(seconds):
            for row in task.run():
                rows.append(row)
    except SectionSkippedError:
        raise
    except Exception as error:
        return Failure(task=task.name, message=describe(error), out_of_time=_is_late(error))
    return None


def _is_late(error: BaseException | None) -> bool:
    """Whether an error, or one that a library raised it from, is that of the time limit."""
    while error is not None:
        if isinstance(error, TimeLimitError):
            return True
        error = error.__cause__ or error.__context__
    return False


def describe(error: BaseException) -> str:
    """Class and message of an error, on one line."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:500]}" if text else type(error).__name__


def release_memory(device: torch.device) -> None:
    """Free what a task left behind: compiled code, cycles, and cached blocks of a GPU."""
    torch.compiler.reset()
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise :class:`TimeLimitError` in the body after so many seconds, in the main thread.

    Compilation may take minutes. A library that catches the error meets it again. Other threads
    have no limit.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    armed = True

    def stop(number: int, frame: Any) -> None:
        if armed:
            raise TimeLimitError(f"stopped after {seconds:.0f} s, the end of the section's time")

    previous = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, max(0.01, seconds), REPEAT)
    try:
        yield
    finally:
        armed = False
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
