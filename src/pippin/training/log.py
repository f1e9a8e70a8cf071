# SPDX-License-Identifier: Apache-2.0
"""What a run says while it trains: log.jsonl and TensorBoard."""

import json
import math
from pathlib import Path
from typing import Any

from pippin.system.lines import keep_lines


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
        keep_lines(self.path, lambda line: line.get("images", 0) <= resume_at)
        self._file = self.path.open("a", encoding="utf-8")
        self._board: Any = SummaryWriter(folder / "tensorboard", purge_step=resume_at + 1)

    def write(self, images: int, **values: float) -> None:
        """One line: {"images": ..., **values}; null stands for a number that is not finite."""
        finite = {name: v if math.isfinite(v) else None for name, v in values.items()}
        self._file.write(json.dumps({"images": images, **finite}) + "\n")
        self._file.flush()
        for name, value in values.items():
            self._board.add_scalar(name, value, images)

    def close(self) -> None:
        """Flush both."""
        self._file.close()
        self._board.close()
