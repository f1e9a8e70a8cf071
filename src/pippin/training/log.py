# SPDX-License-Identifier: Apache-2.0
"""Training log: log.jsonl and TensorBoard, with means between two lines."""

import math
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from pippin.model import LatentDenoiser
from pippin.system.files import name_file_in_errors
from pippin.system.lines import keep_lines, line_text
from pippin.system.text import printable, progress_hidden


class RunningMeans:
    """Means of named values since the last log line.

    Checkpoints store them, so that a run resumed between two log lines logs the values of an
    uninterrupted one.
    """

    def __init__(self) -> None:
        self.count = 0
        self.sums: dict[str, float] = {}

    def add(self, values: Mapping[str, float]) -> None:
        """Add the values of one step; every step has the same names."""
        self.count += 1
        for name, value in values.items():
            self.sums[name] = self.sums.get(name, 0.0) + value

    def take(self) -> dict[str, float]:
        """Return the means and start anew; empty if nothing was added."""
        means = {name: total / self.count for name, total in self.sums.items()}
        self.count, self.sums = 0, {}
        return means

    def state_dict(self) -> dict[str, Any]:
        """State as JSON values, which keep every bit of a float."""
        return {"count": self.count, "sums": dict(self.sums)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore a state of :meth:`state_dict`."""
        self.count, self.sums = state["count"], dict(state["sums"])


@dataclass(frozen=True, kw_only=True)
class StepRecord:
    """Measurements of one step."""

    images_seen: int
    """Images seen at the end of the step."""
    batch_size: int
    """Images of the step, on all ranks."""
    loss: float
    """Mean over the global batch."""
    grad_norm: float
    """Norm before clipping."""
    learning_rate: float
    finite: bool
    """False: loss or gradient is not finite, and the step was skipped."""
    bad_steps: int
    """Number of steps skipped so far."""
    data_seconds: float
    """Time spent waiting for the batch and for random numbers."""
    step_seconds: float
    """Total time, waiting included."""
    stop: int | None = None
    """Signal received by any of several ranks; a single process checks its own."""
    save_failed: bool = False
    """Whether rank 0 of several failed to save a checkpoint."""


def reaches(images_seen: int, batch_size: int, every: int) -> bool:
    """Whether the step that ended at ``images_seen`` reached or passed a multiple of ``every``;
    0 = never."""
    return every > 0 and images_seen // every > max(0, images_seen - batch_size) // every


Hook = Callable[[StepRecord], None]
"""Called with the record of each step, such as a progress bar."""


@dataclass(frozen=True, kw_only=True)
class Monitor:
    """Validation or previews, at the first step at or past each multiple of ``every`` images."""

    every: int
    """Period in images; 0 = never."""
    run: Callable[[LatentDenoiser, int], None]
    """Called on rank 0 with the averaged model and the number of images seen."""
    build: Callable[[], LatentDenoiser]
    """Builds a model of the same shape, which gathered weights need under FSDP."""
    done: Callable[[int], bool] = lambda images: True
    """Whether it has run at this number of images; False makes up for a kill on resume."""


class RunLog:
    """Appends one JSON object per line to log.jsonl, and scalars to TensorBoard.

    Args:
        folder: the run folder.
        resume_at: images seen at the resumed checkpoint; later lines, written by a process that
            was killed before its next checkpoint, are removed.
    """

    def __init__(self, folder: Path, resume_at: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.path = folder / "log.jsonl"
        keep_lines(self.path, lambda line: _is_before(line, resume_at))
        self._file = self.path.open("a", encoding="utf-8")
        self._events = folder / "tensorboard"
        _silence_writer_thread()
        with name_file_in_errors(self._events):
            self._board: Any = SummaryWriter(self._events, purge_step=resume_at + 1)

    def write(self, images: int, **values: float) -> None:
        """Write a line {"images": ..., **values}; null stands for a non-finite value.

        Raises:
            OSError: disk full or not writable; the error names the file.
        """
        finite = {name: v if math.isfinite(v) else None for name, v in values.items()}
        with name_file_in_errors(self.path):
            self._file.write(line_text({"images": images, **finite}))
            self._file.flush()
        with name_file_in_errors(self._events):
            for name, value in values.items():
                self._board.add_scalar(name, value, images)

    def note(self, images: int, text: str) -> None:
        """Write a line {"images": ..., "note": text} that explains a feature of the curves.

        Raises:
            OSError: disk full or not writable; the error names the file.
        """
        with name_file_in_errors(self.path):
            self._file.write(line_text({"images": images, "note": text}))
            self._file.flush()

    def close(self) -> None:
        """Flush and close both."""
        with name_file_in_errors(self.path):
            self._file.close()
        with name_file_in_errors(self._events):
            self._board.close()


def _is_before(line: dict[str, Any], images: int) -> bool:
    """Whether a line was written at or before ``images``; one without a valid count is damaged."""
    seen = line.get("images", 0)
    return isinstance(seen, int) and seen <= images


@cache
def _silence_writer_thread() -> None:
    """Suppress the traceback of TensorBoard's thread on a full disk: its next write raises."""
    previous = threading.excepthook

    def hook(args: threading.ExceptHookArgs) -> None:
        is_writer = type(args.thread).__name__ == "_AsyncWriterThread"
        if not (is_writer and isinstance(args.exc_value, OSError)):
            previous(args)

    threading.excepthook = hook


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
