# SPDX-License-Identifier: Apache-2.0
"""Record of a measurement: a JSON file for later comparison."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pippin.config import Config


@dataclass(frozen=True, kw_only=True)
class Spread(Config):
    """Median and range of a figure over windows."""

    median: float
    low: float
    high: float
    windows: int

    @classmethod
    def over(cls, values: Sequence[float]) -> "Spread":
        """Median, minimum and maximum of one value per window."""
        return cls(
            median=statistics.median(values),
            low=min(values),
            high=max(values),
            windows=len(values),
        )


@dataclass(frozen=True, kw_only=True)
class ModeResult(Config):
    """Result of one mode: a precision, eager or compiled."""

    precision: str
    compiled: bool
    images_per_second: Spread
    """Training throughput without timers; data, optimizer and EMA included."""
    step_seconds: Spread
    """Seconds per step, of the same steps."""
    parts: dict[str, Spread]
    """Seconds per step in each part, from further steps that synchronise after each part; on a
    GPU their sum may therefore exceed ``step_seconds``."""
    matmul_peak: Spread
    """FLOP/s of a large square matrix product at this precision, measured between the windows."""
    peak_share: Spread
    """FLOP/s of the steps over the same window's matmul peak."""
    peak_memory: int
    """Bytes. CUDA: peak allocated by torch; CPU: the process's peak resident set."""

    @property
    def name(self) -> str:
        """Name in tables."""
        return f"{self.precision} {'compiled' if self.compiled else 'eager'}"


@dataclass(frozen=True, kw_only=True)
class BenchRecord(Config):
    """Record of one measurement."""

    FORMAT = "bench record"

    recipe: str
    versions: dict[str, str]
    """Versions of pippin, its commit, Python, torch; may differ between compared records."""
    machine: dict[str, str]
    """Device, processor, threads; must be equal."""
    settings: dict[str, Any]
    """Settings of the recipe and the measurement; must be equal."""
    step_flops: int
    """FLOPs of the denoiser, forward and backward, for one image; 1 MAC = 2 FLOPs."""
    loader: Spread
    """Images/s of the loader alone: cached moments to latents on the device."""
    modes: tuple[ModeResult, ...]
