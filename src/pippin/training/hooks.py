# SPDX-License-Identifier: Apache-2.0
"""Training hooks: log lines, the progress bar, and actions every N images."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from pippin.system.terminal import printable, progress_hidden
from pippin.training.log import RunLog
from pippin.training.step_report import StepReport
from pippin.training.trainer import Hook, Trainer


def _crossed(trainer: Trainer, images: int) -> bool:
    """Whether the last step crossed a multiple of ``images``."""
    previous = trainer.images_seen - trainer.config.batch_size
    return trainer.images_seen // images > max(0, previous) // images


class LogHook:
    """Log the means over the steps since the last line, every ``every`` images."""

    def __init__(self, log: RunLog, every: int) -> None:
        self.log, self.every = log, every
        self._steps: list[StepReport] = []

    def __call__(self, trainer: Trainer, report: StepReport) -> None:
        """Collect the report, and write when a multiple of ``every`` was crossed."""
        self._steps.append(report)
        last = trainer.step_count == trainer.total_steps
        if not (_crossed(trainer, self.every) or last):
            return
        steps, self._steps = self._steps, []
        seconds = sum(step.step_seconds for step in steps)
        line = {
            "images_per_second": len(steps) * trainer.config.batch_size / seconds,
            "data_wait": sum(step.data_seconds for step in steps) / seconds,
            "learning_rate": report.learning_rate,
            "bad_steps": report.bad_steps,
        }
        self.log.write(report.images_seen, **line, **trainer.log_means.take())


class Every:
    """Hook that acts at the first step at or past each multiple of ``images``; 0 = never. Used as
    a monitor, it waits until the step's checkpoint is on disk.

    Args:
        images: period.
        act: called on all ranks.
        done: whether the action at this number of images is done already, checked on rank 0.
    """

    def __init__(
        self,
        images: int,
        act: Callable[[Trainer], None],
        done: Callable[[int], bool] = lambda images: False,
    ) -> None:
        self.images, self.act, self.done = images, act, done

    def __call__(self, trainer: Trainer, report: StepReport) -> None:
        """Act if due."""
        if self._due(trainer):
            trainer.wait_until_saved()
            self.act(trainer)

    def is_missing(self, trainer: Trainer) -> bool:
        """Whether the action due at the resumed checkpoint is missing, because the earlier process
        was killed before it; the same on all ranks."""
        here = self._due(trainer) and trainer.world.is_rank0 and not self.done(trainer.images_seen)
        return trainer.world.any_rank(here)

    def _due(self, trainer: Trainer) -> bool:
        return self.images > 0 and _crossed(trainer, self.images)


@contextmanager
def progress_hook(title: str, console: Console | None = None) -> Iterator[Hook]:
    """Progress bar with images seen, images/s, loss and remaining time, on stderr."""
    progress = Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("images"),
        TextColumn("{task.fields[speed]}"),
        TextColumn("loss {task.fields[loss]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console or Console(stderr=True),
        refresh_per_second=2,
        disable=progress_hidden(),
    )
    with progress:
        task = progress.add_task(printable(title), total=None, speed="", loss="")
        smooth: dict[str, float] = {}

        def hook(trainer: Trainer, report: StepReport) -> None:
            if report.finite:
                smooth["loss"] = 0.98 * smooth.get("loss", report.loss) + 0.02 * report.loss
            speed = trainer.config.batch_size / report.step_seconds
            smooth["speed"] = 0.95 * smooth.get("speed", speed) + 0.05 * speed
            progress.update(
                task,
                total=trainer.total_steps * trainer.config.batch_size,
                completed=report.images_seen,
                speed=f"{smooth['speed']:.0f} images/s",
                loss=f"{smooth['loss']:.4f}" if "loss" in smooth else "not finite",
            )

        yield hook
