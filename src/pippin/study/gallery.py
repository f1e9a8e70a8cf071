# SPDX-License-Identifier: Apache-2.0
"""Pictures side by side: sample grids at equal seeds, and drift strips."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pippin.run.folder import RunFolder
from pippin.study.pictures import Picture, embed
from pippin.study.source import Run, Source

SEEDS_SHOWN = 3
"""Pictures of the first training seeds only: a page with all of them would be too heavy."""


@dataclass(frozen=True, kw_only=True)
class Frame:
    """A place for a picture; where there is none, why."""

    label: str
    position: int | None
    """Of the arm; None for real pictures."""
    picture: Picture | None
    missing: str


@dataclass(frozen=True, kw_only=True)
class Wall:
    """Pictures that are to be seen together."""

    title: str
    note: str
    warning: bool
    """The note says that the pictures should not be compared."""
    frames: tuple[Frame, ...]


def sample_walls(source: Source) -> list[Wall]:
    """The sample grids of all arms, one wall for each training seed."""
    walls = []
    for seed in source.declaration.seeds[:SEEDS_SHOWN]:
        runs = [run for run in source.runs if run.seed == seed]
        frames = [_frame(source, run.arm, _samples(run) / "grid.png") for run in runs]
        if any(frame.picture for frame in frames):
            note, warning = _seeds_note(runs)
            title = f"training seed {seed}"
            walls.append(Wall(title=title, note=note, warning=warning, frames=tuple(frames)))
    return walls


def drift_walls(source: Source) -> dict[str, list[Wall]]:
    """Control -> one wall for each training seed, the real pairs' strip last."""
    controls = sorted({path.stem for run in source.runs for path in _strips(run)})
    found: dict[str, list[Wall]] = {}
    for control in controls:
        for seed in source.declaration.seeds[:SEEDS_SHOWN]:
            runs = [run for run in source.runs if run.seed == seed]
            frames = [
                _frame(source, run.arm, run.folder / "drift" / f"{control}.png") for run in runs
            ]
            if not any(frame.picture for frame in frames):
                continue
            frames.append(_real_frame([source.folder, *(run.folder for run in runs)], control))
            wall = Wall(
                title=f"training seed {seed}",
                note=_rows_note(runs, control),
                warning=False,
                frames=tuple(frames),
            )
            found.setdefault(control, []).append(wall)
    return found


def _samples(run: Run) -> Path:
    """Where the evaluation's samples lie; those of ``pippin sample`` where it made none."""
    evaluated = RunFolder(run.folder).evaluated_samples
    return evaluated if evaluated.is_dir() else run.folder / "samples"


def _strips(run: Run) -> Iterable[Path]:
    return (run.folder / "drift").glob("*.png")


def _frame(source: Source, arm: str, path: Path) -> Frame:
    picture, missing = embed(path)
    position = list(source.declaration.arms).index(arm)
    return Frame(label=arm, position=position, picture=picture, missing=missing)


def _real_frame(folders: list[Path], control: str) -> Frame:
    """The real pairs' strip lies in the study's folder, or in a run's."""
    missing = "not there"
    for folder in folders:
        picture, missing = embed(folder / "real" / "drift" / f"{control}.png")
        if picture is not None:
            return Frame(label="real pictures", position=None, picture=picture, missing="")
    return Frame(label="real pictures", position=None, picture=None, missing=missing)


def _seeds_note(runs: list[Run]) -> tuple[str, bool]:
    """Whether the grids show equal sample seeds and labels, from the runs' manifests."""
    shown = [_shown(_manifest(_samples(run) / "manifest.json")) for run in runs]
    if not all(shown):
        return "no manifest says which sample seeds these are: do not compare them", True
    if any(one != shown[0] for one in shown):
        return "sample seeds or labels differ between these grids: do not compare them", True
    equal = (
        "the same sample seeds and labels in every grid: " if len(runs) > 1 else "sample seeds "
    )
    return f"{equal}{_ranges([seed for seed, _ in shown[0]])}", False


def _shown(manifest: dict[str, Any]) -> list[tuple[Any, Any]]:
    """(sample seed, label) of every picture of a grid."""
    images = manifest.get("images")
    rows = images if isinstance(images, list) else []
    return [(row.get("seed"), row.get("label")) for row in rows if isinstance(row, dict)]


def _rows_note(runs: list[Run], control: str) -> str:
    """What the rows of a drift strip are, as ``drift/manifest.json`` says: control -> text."""
    manifests = (_manifest(run.folder / "drift" / "manifest.json") for run in runs)
    texts = {str(one[control]) for one in manifests if control in one}
    return "; ".join(sorted(texts))


def _manifest(path: Path) -> dict[str, Any]:
    """A manifest; an empty one where there is none that can be read."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return values if isinstance(values, dict) else {}


def _ranges(seeds: list[Any]) -> str:
    """``0 to 35``, or the first few."""
    first = seeds[0]
    if isinstance(first, int) and seeds == list(range(first, first + len(seeds))):
        return f"{first} to {seeds[-1]}"
    text = ", ".join(str(seed) for seed in seeds[:12])
    return f"{text}, ..." if len(seeds) > 12 else text
