# SPDX-License-Identifier: Apache-2.0
"""What a run says while it trains: log.jsonl and TensorBoard."""

import math
import threading
from functools import cache
from pathlib import Path
from typing import Any

from pippin.system.files import naming
from pippin.system.lines import keep_lines, line_text


class RunLog:
    """Appends one JSON object a line to log.jsonl, and scalars to TensorBoard.

    Args:
        folder: of the run.
        resume_at: images seen at the checkpoint that is resumed; later lines, written by a
            process that was killed before its next checkpoint, are taken out.
    """

    def __init__(self, folder: Path, resume_at: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.path = folder / "log.jsonl"
        keep_lines(self.path, lambda line: _is_before(line, resume_at))
        self._file = self.path.open("a", encoding="utf-8")
        self._events = folder / "tensorboard"
        _leave_to_the_next_write()
        with naming(self._events):
            self._board: Any = SummaryWriter(self._events, purge_step=resume_at + 1)

    def write(self, images: int, **values: float) -> None:
        """One line: {"images": ..., **values}; null stands for a number that is not finite.

        Raises:
            OSError: disk full or not writable; it names the file.
        """
        finite = {name: v if math.isfinite(v) else None for name, v in values.items()}
        with naming(self.path):
            self._file.write(line_text({"images": images, **finite}))
            self._file.flush()
        with naming(self._events):
            for name, value in values.items():
                self._board.add_scalar(name, value, images)

    def note(self, images: int, text: str) -> None:
        """One line: {"images": ..., "note": text}, of what a reader of the curves must know.

        Raises:
            OSError: disk full or not writable; it names the file.
        """
        with naming(self.path):
            self._file.write(line_text({"images": images, "note": text}))
            self._file.flush()

    def close(self) -> None:
        """Flush both."""
        with naming(self.path):
            self._file.close()
        with naming(self._events):
            self._board.close()


def _is_before(line: dict[str, Any], images: int) -> bool:
    """Whether a line was written by then; one that does not say so is damaged."""
    seen = line.get("images", 0)
    return isinstance(seen, int) and seen <= images


@cache
def _leave_to_the_next_write() -> None:
    """No traceback where TensorBoard's thread finds no room: its next write raises the error."""
    before = threading.excepthook

    def hook(args: threading.ExceptHookArgs) -> None:
        ours = type(args.thread).__name__ == "_AsyncWriterThread"
        if not (ours and isinstance(args.exc_value, OSError)):
            before(args)

    threading.excepthook = hook
