# SPDX-License-Identifier: Apache-2.0
"""What a measurement leaves behind: one JSON file that a later one can be compared with."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pippin.config import Config


@dataclass(frozen=True, kw_only=True)
class Spread(Config):
    """A figure over windows."""

    median: float
    low: float
    high: float
    windows: int

    @classmethod
    def over(cls, values: Sequence[float]) -> "Spread":
        """Median, smallest and largest of one value per window."""
        return cls(
            median=statistics.median(values),
            low=min(values),
            high=max(values),
            windows=len(values),
        )


@dataclass(frozen=True, kw_only=True)
class ModeResult(Config):
    """One precision, eager or compiled."""

    precision: str
    compiled: bool
    images_per_second: Spread
    """Of training, undisturbed; data, optimizer and EMA included."""
    step_seconds: Spread
    """Of the same steps."""
    parts: dict[str, Spread]
    """Seconds a step spends in each part, from further steps that wait for the device after each
    part, so that on a GPU their sum may exceed ``step_seconds``."""
    matmul_peak: Spread
    """FLOP/s of a large square matrix product at this precision, measured between the windows."""
    peak_share: Spread
    """FLOPs of the steps, per second, in units of the same window's matmul peak."""
    peak_memory: int
    """Bytes. CUDA: allocated by torch at most; CPU: the process's largest resident set."""

    @property
    def name(self) -> str:
        """As a table shows it."""
        return f"{self.precision} {'compiled' if self.compiled else 'eager'}"


@dataclass(frozen=True, kw_only=True)
class BenchRecord(Config):
    """All of one measurement."""

    FORMAT = "bench record"

    recipe: str
    versions: dict[str, str]
    """Of pippin, its commit, Python, torch; may differ between records that are compared."""
    machine: dict[str, str]
    """Device, processor, threads: must not differ."""
    settings: dict[str, Any]
    """Of the recipe and of the measurement: must not differ."""
    step_flops: int
    """FLOPs of the denoiser, forward and backward, for one image; 1 MAC = 2 FLOPs."""
    loader: Spread
    """Images/s of the loader alone: cached moments to latents on the device."""
    modes: tuple[ModeResult, ...]
