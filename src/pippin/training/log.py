# SPDX-License-Identifier: Apache-2.0
"""Training log: log.jsonl and TensorBoard, with means between two lines."""

import math
import threading
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from pippin.system.files import name_file_in_errors
from pippin.system.lines import keep_lines, line_text


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
