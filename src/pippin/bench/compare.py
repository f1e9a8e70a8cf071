# SPDX-License-Identifier: Apache-2.0
"""Two measurements of the same work on the same machine, as ratios."""

from dataclasses import dataclass
from typing import Any

from pippin.bench.record import BenchRecord, ModeResult, Spread
from pippin.config import ConfigError


@dataclass(frozen=True, kw_only=True)
class Ratio:
    """New speed over old speed."""

    what: str
    old: Spread
    new: Spread

    @property
    def value(self) -> float:
        """Above 1 the new one is faster."""
        return self.new.median / self.old.median

    @property
    def clear(self) -> bool:
        """The two ranges over windows do not overlap."""
        return self.new.low > self.old.high or self.new.high < self.old.low


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Ratios, and what a reader must know about them."""

    ratios: tuple[Ratio, ...]
    notes: tuple[str, ...]


def compare(old: BenchRecord, new: BenchRecord) -> Comparison:
    """Speeds of the loader and of every mode that both records have.

    Versions may differ, and settings that only one of them knows (a later version has more): both
    become notes.

    Raises:
        ConfigError: another machine or other settings, by name; or no mode in common.
    """
    apart = _apart(old.machine, new.machine) + _apart(old.settings, new.settings)
    if apart:
        raise ConfigError(
            "these measurements are not comparable; they differ in\n  "
            + "\n  ".join(apart)
            + "\nmeasure both on one machine with equal settings"
        )
    by_name = {mode.name: mode for mode in old.modes}
    pairs = [(by_name[mode.name], mode) for mode in new.modes if mode.name in by_name]
    if not pairs:
        raise ConfigError(
            f"no mode in common: the old record has {', '.join(by_name)}; "
            f"the new one {', '.join(mode.name for mode in new.modes)}"
        )
    ratios = [_ratio(a, b) for a, b in pairs]
    loader = Ratio(what="loader alone", old=old.loader, new=new.loader)
    return Comparison(ratios=(*ratios, loader), notes=tuple(_notes(old, new)))


def _ratio(old: ModeResult, new: ModeResult) -> Ratio:
    return Ratio(what=new.name, old=old.images_per_second, new=new.images_per_second)


def _apart(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """What both name and do not agree on."""
    return [
        f"{name}: {old[name]} -> {new[name]}"
        for name in old
        if name in new and old[name] != new[name]
    ]


def _notes(old: BenchRecord, new: BenchRecord) -> list[str]:
    notes = [f"version: {line}" for line in _apart(old.versions, new.versions)]
    if old.step_flops != new.step_flops:
        notes.append(f"FLOPs of a step differ: {old.step_flops:.4g} -> {new.step_flops:.4g}")
    for path in sorted(set(old.settings) ^ set(new.settings)):
        side = "old" if path in old.settings else "new"
        notes.append(f"only the {side} record has the setting {path}")
    return notes
