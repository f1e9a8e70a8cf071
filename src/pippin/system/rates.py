# SPDX-License-Identifier: Apache-2.0
"""Rate of a task, and its progress in words: count, rate and remaining time."""

from collections import deque
from collections.abc import Mapping

WINDOW = 20
"""Number of reports over which the rate is measured: minutes, so that validation and checkpoints
are part of it."""
Facts = Mapping[str, str]
"""Name -> value, such as loss -> 0.1234."""


class RateWindow:
    """Rate over the newest reports of a task.

    Args:
        now: time of the start in seconds.
        done: what was done before it.
    """

    def __init__(self, now: float, done: float = 0) -> None:
        self._reports = deque([(now, done)], maxlen=WINDOW)

    def add(self, now: float, done: float) -> None:
        """Report what is done by now."""
        self._reports.append((now, done))

    @property
    def rate(self) -> float | None:
        """Rate per second; None before anything is done."""
        (start, before), (end, done) = self._reports[0], self._reports[-1]
        return (done - before) / (end - start) if end > start and done > before else None

    def remaining(self, total: float) -> float | None:
        """Seconds that the rest takes at this rate; None if the rate is unknown."""
        rate = self.rate
        return None if rate is None else max(0.0, total - self._reports[-1][1]) / rate


def format_seconds(seconds: float) -> str:
    """Hours, minutes and seconds, as 0:04:09."""
    minutes, second = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{second:02d}"


def format_rate(rate: float, unit: str) -> str:
    """Rate as 812 images/s, or of slow tasks as 12.3 s/image.

    Args:
        rate: per second.
        unit: plural noun that ends with s.
    """
    if rate < 0.1:
        return f"{1 / rate:.1f} s/{unit.removesuffix('s')}"
    return f"{rate:.0f} {unit}/s" if rate >= 100 else f"{rate:.3g} {unit}/s"


def format_count(done: int, total: int | None, unit: str) -> str:
    """Count as 16 of 64 images (25.0 %)."""
    if total is None:
        return f"{done} {unit}"
    return f"{done} of {total} {unit} ({100 * done / max(1, total):.1f} %)"


def progress_text(
    done: int, total: int | None, unit: str, rate: RateWindow, took: float, facts: Facts
) -> str:
    """Progress in words: count, rate, facts, and the remaining or, at the end, the total time.

    Args:
        done: number of units that are done.
        total: number of all units; None = unknown.
        unit: plural noun.
        rate: reports so far.
        took: seconds since the start of the task.
        facts: further values, in order.
    """
    parts = [format_count(done, total, unit)]
    if (speed := rate.rate) is not None:
        parts.append(format_rate(speed, unit))
    parts += [f"{name} {value}" for name, value in facts.items()]
    if total is not None and done >= total:
        parts.append(f"in {format_seconds(took)}")
    elif total is not None and (seconds := rate.remaining(total)) is not None:
        parts.append(f"ETA {format_seconds(seconds)}")
    return ", ".join(parts)
