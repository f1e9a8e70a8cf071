# SPDX-License-Identifier: Apache-2.0
"""Source of a report: a study or a single run, as read from its folder."""

from dataclasses import dataclass
from pathlib import Path

from pippin.studies.declaration import Declaration
from pippin.studies.results import Results
from pippin.system.text import printable


@dataclass(frozen=True, kw_only=True)
class Run:
    """One run's folder and log."""

    arm: str
    seed: int
    folder: Path
    log: tuple[dict[str, float], ...]
    """Log lines, sorted by number of images."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """A study, or a single run (``declaration.primary`` is None)."""

    folder: Path
    declaration: Declaration
    results: Results
    runs: tuple[Run, ...]
    """Runs whose folder exists, in the order of arms, then seeds."""
    problems: tuple[str, ...]

    @property
    def is_study(self) -> bool:
        """True for a study, False for a single run."""
        return self.declaration.primary is not None

    def __repr__(self) -> str:
        """Name and folder, instead of all results and logs."""
        name = printable(self.declaration.name)
        return f"{name}: {len(self.runs)} runs in {printable(self.folder)}"

    def run(self, arm: str, seed: int) -> Run | None:
        """The run of one arm on one seed; None if its folder does not exist."""
        return next((run for run in self.runs if (run.arm, run.seed) == (arm, seed)), None)
