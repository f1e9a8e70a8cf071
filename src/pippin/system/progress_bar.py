# SPDX-License-Identifier: Apache-2.0
"""Progress bar on a terminal."""

from typing import TYPE_CHECKING

from rich.progress import (
    BarColumn,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as RichProgress
from rich.text import Text

from pippin.system.rates import format_rate
from pippin.system.text import printable

if TYPE_CHECKING:
    from pippin.system.progress import Progress


class _RateColumn(ProgressColumn):
    """Rate, such as 812 images/s; empty while it is unknown."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text(format_rate(speed, task.fields["unit"]) if speed else "")


class Bar:
    """Bar of a task; that of a brief task disappears at the end.

    Args:
        task: read at each report.
    """

    def __init__(self, task: "Progress") -> None:
        self.task = task
        self._bars = RichProgress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TextColumn("{task.fields[count]}", markup=False),
            _RateColumn(),
            TextColumn("{task.fields[facts]}", markup=False),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=task.console,
            refresh_per_second=2,
            transient=task.brief,
        )

    def start(self) -> None:
        """Show the bar at the first report."""
        self._bars.start()
        self._bar = self._bars.add_task(
            printable(self.task.title),
            total=None,
            completed=self.task.done,
            visible=False,
            count="",
            facts="",
            unit=self.task.unit,
        )

    def report(self, force: bool) -> None:
        """Show the current state."""
        task = self.task
        facts = "  ".join(f"{name} {value}" for name, value in task.facts().items())
        self._bars.update(
            self._bar,
            total=task.total,
            completed=task.done,
            count=f"{task.done}/{'?' if task.total is None else task.total} {task.unit}",
            facts=printable(facts),
            visible=True,
        )

    def stop(self, finished: bool) -> None:
        """End the bar."""
        self._bars.stop()
