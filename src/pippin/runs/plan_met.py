# SPDX-License-Identifier: Apache-2.0
"""Planned against measured time, memory and disk of a training: ``plan.json`` of its folder."""

from dataclasses import dataclass
from pathlib import Path

from pippin.config import Config

PLAN_FILE = "plan.json"


@dataclass(frozen=True, kw_only=True)
class Quantity(Config):
    """One planned and measured quantity; None = unknown."""

    planned: float | None
    measured: float | None

    @property
    def ratio(self) -> float | None:
        """Measured over planned."""
        if not self.planned or self.measured is None:
            return None
        return self.measured / self.planned


@dataclass(frozen=True, kw_only=True)
class PlanMet(Config):
    """Comparison of a finished training with its plan."""

    FORMAT = "plan met"

    device: str
    """GPU by the name that CUDA reports, or cpu."""
    world_size: int
    images: int
    """Images of the run."""
    utilisation: float | None
    """Assumed share of the peak; None where the peak of the device is unknown."""
    hours: Quantity
    """Time of all steps, resumed parts included; evaluations and checkpoints are left out."""
    memory: Quantity
    """Bytes: of rank 0's GPU, or of the process on a CPU, which has no plan."""
    checkpoints: Quantity
    """Bytes of the checkpoints that are kept."""
    caches: Quantity
    """Bytes of the caches of latents and captions."""

    @property
    def measured_utilisation(self) -> float | None:
        """Share of the peak that the steps reached, by the planned FLOPs."""
        ratio = self.hours.ratio
        return None if self.utilisation is None or not ratio else self.utilisation / ratio


def read_plan_met(folder: Path) -> PlanMet | None:
    """Comparison of a run folder; None if there is none or it cannot be read."""
    try:
        return PlanMet.load(folder / PLAN_FILE)
    except (OSError, ValueError):
        return None


def plan_met_rows(met: PlanMet) -> list[tuple[str, str]]:
    """Name and text of each quantity, for the terminal and for reports."""
    rows = [
        ("hours", _text(met.hours, "h", 1.0)),
        ("memory", _text(met.memory, "GB", 1e9)),
        ("checkpoints", _text(met.checkpoints, "GB", 1e9)),
        ("caches", _text(met.caches, "GB", 1e9)),
    ]
    if met.measured_utilisation is not None and met.utilisation is not None:
        text = f"assumed {met.utilisation:.0%}, measured {met.measured_utilisation:.1%}"
        rows.append(("share of the peak", text))
    return rows


def _text(quantity: Quantity, unit: str, one: float) -> str:
    """``planned 1.2 GB, measured 1.3 GB (+8 %)``."""
    values = (quantity.planned, quantity.measured)
    words = ("unknown" if value is None else f"{value / one:.3g} {unit}" for value in values)
    planned, measured = words
    ratio = quantity.ratio
    share = "" if ratio is None else f" ({ratio - 1:+.0%})"
    return f"planned {planned}, measured {measured}{share}"
