# SPDX-License-Identifier: Apache-2.0
"""Records of measurements, and ratios of two records of the same work."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pippin.config import Config, ConfigError


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


@dataclass(frozen=True, kw_only=True)
class Ratio:
    """Ratio of new to old throughput."""

    what: str
    old: Spread
    new: Spread

    @property
    def value(self) -> float:
        """New over old; above 1, the new one is faster."""
        return self.new.median / self.old.median

    @property
    def clear(self) -> bool:
        """Whether the two ranges over windows do not overlap."""
        return self.new.low > self.old.high or self.new.high < self.old.low


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Ratios, and notes on their comparability."""

    ratios: tuple[Ratio, ...]
    notes: tuple[str, ...]


def compare(old: BenchRecord, new: BenchRecord) -> Comparison:
    """Compare the loader and every mode that both records have.

    Different versions, and settings that only one record has (later versions have more), become
    notes.

    Raises:
        ConfigError: different machine or settings, listed by name; or no common mode.
    """
    differences = _differences(old.machine, new.machine)
    differences += _differences(old.settings, new.settings)
    if differences:
        raise ConfigError(
            "these measurements are not comparable; they differ in\n  "
            + "\n  ".join(differences)
            + "\nmeasure both on one machine with equal settings"
        )
    by_name = {mode.name: mode for mode in old.modes}
    pairs = [(by_name[mode.name], mode) for mode in new.modes if mode.name in by_name]
    if not pairs:
        raise ConfigError(
            f"no common mode: the old record has {', '.join(by_name)}; "
            f"the new one {', '.join(mode.name for mode in new.modes)}"
        )
    ratios = [_ratio(a, b) for a, b in pairs]
    loader = Ratio(what="loader alone", old=old.loader, new=new.loader)
    return Comparison(ratios=(*ratios, loader), notes=tuple(_notes(old, new)))


def _ratio(old: ModeResult, new: ModeResult) -> Ratio:
    return Ratio(what=new.name, old=old.images_per_second, new=new.images_per_second)


def _differences(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """Lines for the keys that both have with different values."""
    return [
        f"{name}: {old[name]} -> {new[name]}"
        for name in old
        if name in new and old[name] != new[name]
    ]


def _notes(old: BenchRecord, new: BenchRecord) -> list[str]:
    notes = [f"version: {line}" for line in _differences(old.versions, new.versions)]
    if old.step_flops != new.step_flops:
        notes.append(f"FLOPs of a step differ: {old.step_flops:.4g} -> {new.step_flops:.4g}")
    for path in sorted(set(old.settings) ^ set(new.settings)):
        side = "old" if path in old.settings else "new"
        notes.append(f"only the {side} record has the setting {path}")
    return notes
