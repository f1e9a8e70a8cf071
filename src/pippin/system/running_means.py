# SPDX-License-Identifier: Apache-2.0
"""Means between two log lines."""

from collections.abc import Mapping
from typing import Any


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
