# SPDX-License-Identifier: Apache-2.0
"""Progress bar of a training."""

from collections.abc import Iterator
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

from pippin.system.text import printable, progress_hidden
from pippin.training.monitor import Hook, StepRecord


@contextmanager
def progress_hook(title: str, images: int, console: Console | None = None) -> Iterator[Hook]:
    """Progress bar of a run of so many images, on stderr: images seen, images/s, loss, remaining
    time."""
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

        def hook(record: StepRecord) -> None:
            if record.finite:
                smooth["loss"] = 0.98 * smooth.get("loss", record.loss) + 0.02 * record.loss
            speed = record.batch_size / record.step_seconds
            smooth["speed"] = 0.95 * smooth.get("speed", speed) + 0.05 * speed
            progress.update(
                task,
                total=images,
                completed=record.images_seen,
                speed=f"{smooth['speed']:.0f} images/s",
                loss=f"{smooth['loss']:.4f}" if "loss" in smooth else "not finite",
            )

        yield hook
