# SPDX-License-Identifier: Apache-2.0
"""Ratios of two measurements of the same work on the same machine."""

from dataclasses import dataclass
from typing import Any

from pippin.bench.record import BenchRecord, ModeResult, Spread
from pippin.config import ConfigError


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
