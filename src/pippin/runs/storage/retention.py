# SPDX-License-Identifier: Apache-2.0
"""Rules for which checkpoints of a run stay on disk. Does not import torch.

A rule reads only the folder and the training log, so a resumed run decides as an uninterrupted
one. The checkpoint that a stop writes counts like any other.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from pippin.system.lines import read_lines

HIGHER_IS_BETTER = frozenset({"alignment"})
"""Values of the log of which the largest is the best; of all others it is the smallest."""


@dataclass(frozen=True, kw_only=True)
class Retention:
    """Checkpoints that stay: the newest, one for each interval, and the best one."""

    newest: int
    """Number of newest checkpoints, 1 or more."""
    every: int = 0
    """Also the first checkpoint at or past each multiple of so many images; 0 = none."""
    best: str | None = None
    """Also the checkpoint with the best value of this name in the log; None = none."""
    log: Path | None = None
    """The training log, log.jsonl."""

    def kept(self, images: Collection[int]) -> set[int]:
        """Checkpoints to keep.

        Args:
            images: images seen of all complete checkpoints.
        """
        ordered = sorted(images)
        kept = set(ordered[-self.newest :])
        if self.every:
            firsts: dict[int, int] = {}
            for seen in ordered:
                firsts.setdefault(seen // self.every, seen)
            kept |= {seen for multiple, seen in firsts.items() if multiple}
        best = self._best(ordered)
        return kept if best is None else kept | {best}

    def _best(self, images: Collection[int]) -> int | None:
        """Images of the best checkpoint; the earliest of equal ones, None where none is
        measured."""
        if self.best is None or self.log is None:
            return None
        logged = logged_values(self.log, self.best)
        sign = -1 if self.best in HIGHER_IS_BETTER else 1
        values = {seen: sign * value for seen, value in logged.items() if seen in images}
        return min(values, key=lambda seen: (values[seen], seen), default=None)


def logged_values(log: Path, name: str) -> Mapping[int, float]:
    """Images seen -> value of a name in a training log, where it is finite."""
    lines = read_lines(log).objects.values()
    return {
        line["images"]: float(line[name])
        for line in lines
        if isinstance(line.get("images"), int) and isinstance(line.get(name), int | float)
    }
