# SPDX-License-Identifier: Apache-2.0
"""What a run says while it trains: log.jsonl and TensorBoard."""

import json
import os
from pathlib import Path
from typing import Any


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
        _drop_after(self.path, resume_at)
        self._file = self.path.open("a", encoding="utf-8")
        self._board: Any = SummaryWriter(folder / "tensorboard", purge_step=resume_at + 1)

    def write(self, images: int, **values: float) -> None:
        """One line: {"images": ..., **values}."""
        self._file.write(json.dumps({"images": images, **values}) + "\n")
        self._file.flush()
        for name, value in values.items():
            self._board.add_scalar(name, value, images)

    def close(self) -> None:
        """Flush both."""
        self._file.close()
        self._board.close()


def read_log(path: Path) -> list[dict[str, Any]]:
    """The lines of a log; a last line cut short by a kill is left out."""
    if not path.exists():
        return []
    lines = []
    for text in path.read_text(encoding="utf-8").splitlines():
        try:
            lines.append(json.loads(text))
        except ValueError:
            continue
    return lines


def _drop_after(path: Path, images: int) -> None:
    kept = [line for line in read_log(path) if line["images"] <= images]
    staging = path.with_suffix(".writing")
    staging.write_text("".join(json.dumps(line) + "\n" for line in kept), encoding="utf-8")
    os.replace(staging, path)
