# SPDX-License-Identifier: Apache-2.0
"""Training log: log.jsonl and the callbacks that follow it, with means between two lines."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pippin.system.files import name_file_in_errors
from pippin.system.lines import keep_lines, line_text, read_lines
from pippin.training.callbacks import Callback, Callbacks
from pippin.training.monitor import StepRecord


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


class RunLog:
    """Appends one JSON object per line to log.jsonl, and calls the callbacks of a run.

    Args:
        folder: the run folder.
        resume_at: images seen at the resumed checkpoint; later lines, written by a process that
            was killed before its next checkpoint, are removed.
        callbacks: of the run.
        clock: seconds since the epoch, for ``wall_time``.
    """

    def __init__(
        self,
        folder: Path,
        resume_at: int,
        callbacks: Sequence[Callback] = (),
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.path, self.callbacks, self._clock = folder / "log.jsonl", Callbacks(callbacks), clock
        keep_lines(self.path, lambda line: _is_before(line, resume_at))
        self._file = self.path.open("a", encoding="utf-8")

    def step(
        self, record: StepRecord, seconds: Mapping[str, float], means: Mapping[str, float]
    ) -> None:
        """Write the line of the steps since the last one.

        Args:
            record: the newest step.
            seconds: means of its step_seconds (``step``) and data_seconds (``data``).
            means: means of the finite steps: ``loss`` and ``grad_norm``.
        """
        self.write(
            record.images_seen,
            images_per_second=record.batch_size / seconds["step"],
            data_wait=seconds["data"] / seconds["step"],
            learning_rate=record.learning_rate,
            bad_steps=record.bad_steps,
            **means,
        )

    def write(self, images: int, **values: float) -> None:
        """Write a line {"images": ..., "wall_time": ..., **values}; null stands for a value that
        is not finite.

        Raises:
            OSError: disk full or not writable; the error names the file.
        """
        self._write(images, values)
        self.callbacks.call("on_log", images, values)

    def validation(self, images: int, **values: float) -> None:
        """Write a line of a validation.

        Raises:
            OSError: as :meth:`write`.
        """
        self._write(images, values)
        self.callbacks.call("on_validation", images, values)

    def note(self, images: int, text: str) -> None:
        """Write a line {"images": ..., "wall_time": ..., "note": text} that explains a feature of
        the curves.

        Raises:
            OSError: as :meth:`write`.
        """
        self._append(images, {"note": text})

    def checkpoint(self, path: Path) -> None:
        """Call ``on_checkpoint`` of the callbacks."""
        self.callbacks.call("on_checkpoint", path)

    def preview(self, images: int, path: Path) -> None:
        """Call ``on_preview`` of the callbacks."""
        self.callbacks.call("on_preview", images, path)

    def close(self) -> None:
        """Flush and close the file."""
        with name_file_in_errors(self.path):
            self._file.close()

    def _write(self, images: int, values: Mapping[str, float]) -> None:
        self._append(images, {name: v if math.isfinite(v) else None for name, v in values.items()})

    def _append(self, images: int, entries: Mapping[str, Any]) -> None:
        line = {"images": images, "wall_time": round(self._clock(), 3), **entries}
        with name_file_in_errors(self.path):
            self._file.write(line_text(line))
            self._file.flush()


def _is_before(line: dict[str, Any], images: int) -> bool:
    """Whether a line was written at or before ``images``; one without a valid count is damaged."""
    seen = line.get("images", 0)
    return isinstance(seen, int) and seen <= images


def is_logged(lines: Path, images: int, name: str) -> bool:
    """Whether a line of a log holds a value of this name at this number of images."""
    written = read_lines(lines).objects.values()
    return any(line.get("images") == images and name in line for line in written)
