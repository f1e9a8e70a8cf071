# SPDX-License-Identifier: Apache-2.0
"""Pictures side by side: sample grids at equal seeds, and drift strips.

Where a run keeps its pictures is decided here and nowhere else: :func:`samples_folder` and
:func:`drift_folder`.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pippin.run.folder import RunFolder
from pippin.study.glossary import CONTROLS, control_name
from pippin.study.pictures import ABSENT, Album, Picture
from pippin.study.source import Run, Source
from pippin.study.strips import Rows, read_rows
from pippin.system.json_text import parse_json
from pippin.system.regular import read_regular

SEEDS_SHOWN = 3
"""Pictures of the first training seeds only: a page with all of them would be too heavy."""
GRID, REAL = "grid.png", "real pictures"


@dataclass(frozen=True, kw_only=True)
class Frame:
    """A place for a picture; where there is none, why."""

    label: str
    position: int | None
    """Of the arm; None for real pictures."""
    picture: Picture | None
    missing: str
    alt: str
    """What the picture shows, for readers who do not see it."""


@dataclass(frozen=True, kw_only=True)
class Wall:
    """Pictures that are to be seen together."""

    title: str
    note: str
    warning: bool
    """The note says that the pictures should not be compared."""
    frames: tuple[Frame, ...]
    rows: Rows | None = None
    """What the two rows of a drift strip are."""
    contents: str = ""
    """Seed and class of every picture of a grid, row by row."""


@dataclass(frozen=True, kw_only=True)
class Gallery:
    """All pictures of a page."""

    samples: tuple[Wall, ...]
    """One for each training seed."""
    drift: dict[str, tuple[Wall, ...]]
    """Control -> one for each training seed; the control of the primary metric first."""


def samples_folder(run: Run) -> Path:
    """Where a run's evaluation keeps ``grid.png``, single samples and their manifest; that of
    ``pippin sample`` where nothing was evaluated."""
    evaluated = RunFolder(run.folder).evaluated_samples
    return evaluated if evaluated.is_dir() else run.folder / "samples"


def drift_folder(folder: Path) -> Path:
    """Where the strips of a folder lie: a run's own, or those of real pictures."""
    return folder / "drift"


def gallery(source: Source, album: Album) -> Gallery:
    """The pictures of the first seeds, in the order in which they are worth their bytes: where
    the page would grow too heavy, the later ones are left out and say so."""
    samples: list[Wall] = []
    drift: dict[str, list[Wall]] = {control: [] for control in _controls(source)}
    for seed in source.declaration.seeds[:SEEDS_SHOWN]:
        runs = [run for run in source.runs if run.seed == seed]
        samples += _shown([_sample_wall(source, runs, seed, album)])
        for control, walls in drift.items():
            walls += _shown([_drift_wall(source, runs, seed, control, album, first=not walls)])
    return Gallery(
        samples=tuple(samples),
        drift={control: tuple(walls) for control, walls in drift.items() if walls},
    )


def manifest(path: Path) -> dict[str, Any]:
    """A manifest; an empty one where there is none that can be read."""
    try:
        values = parse_json(read_regular(path))
    except (OSError, ValueError):
        return {}
    return values if isinstance(values, dict) else {}


def sample_rows(run: Run) -> list[dict[str, Any]]:
    """What the manifest says of each sample: seed, label, class, file."""
    images = manifest(samples_folder(run) / "manifest.json").get("images")
    rows = images if isinstance(images, list) else []
    return [row for row in rows if isinstance(row, dict)]


def _shown(walls: list[Wall]) -> list[Wall]:
    return [one for one in walls if any(frame.position is not None for frame in one.frames)]


def _controls(source: Source) -> list[str]:
    found = {path.stem for run in source.runs for path in drift_folder(run.folder).glob("*.png")}
    primary = source.declaration.primary or ""
    order = {control: place for place, control in enumerate(CONTROLS)}

    def rank(control: str) -> tuple[bool, int, str]:
        return not primary.endswith(f" {control}"), order.get(control, len(order)), control

    return sorted(found, key=rank)


def _sample_wall(source: Source, runs: list[Run], seed: int, album: Album) -> Wall:
    note, warning = _seeds_note(runs)
    frames = []
    for run in runs:
        classes = list(dict.fromkeys(str(row.get("class", "")) for row in sample_rows(run)))
        alt = f"grid of samples of {run.arm}, training seed {seed}"
        alt += f"; classes: {', '.join(classes)}" if any(classes) else ""
        frames.append(_frame(source, run.arm, samples_folder(run) / GRID, alt, album))
    return Wall(
        title=f"training seed {seed}",
        note=note,
        warning=warning,
        frames=_unless_all_missing(frames),
        contents="" if warning else next(filter(None, map(_contents, runs)), ""),
    )


def _drift_wall(
    source: Source, runs: list[Run], seed: int, control: str, album: Album, *, first: bool
) -> Wall:
    rows = read_rows(control, _row_texts(runs, control))
    alt = f"; {rows.sentence}" if rows.sentence else ""
    frames = [
        _frame(
            source,
            run.arm,
            drift_folder(run.folder) / f"{control}.png",
            f"pairs of samples of {run.arm} under two values of {control_name(control)}{alt}",
            album,
        )
        for run in runs
    ]
    shown = _unless_all_missing(frames)
    if shown and first:  # real pictures know no training seed
        places = [source.folder, *(run.folder for run in runs)]
        real = f"the same pairs of real pictures{alt}"
        shown = (*shown, _real_frame([place / "real" for place in places], control, real, album))
    title = f"training seed {seed}"
    return Wall(title=title, note="", warning=False, frames=shown, rows=rows)


def _unless_all_missing(frames: Iterable[Frame]) -> tuple[Frame, ...]:
    found = tuple(frames)
    there = any(frame.picture or frame.missing != ABSENT for frame in found)
    return found if there else ()


def _frame(source: Source, arm: str, path: Path, alt: str, album: Album) -> Frame:
    picture, missing = album.embed(path)
    position = list(source.declaration.arms).index(arm)
    return Frame(label=arm, position=position, picture=picture, missing=missing, alt=alt)


def _real_frame(folders: list[Path], control: str, alt: str, album: Album) -> Frame:
    """The real pairs' strip lies in the study's folder, or in a run's."""
    missing = ABSENT
    for folder in folders:
        picture, missing = album.embed(drift_folder(folder) / f"{control}.png")
        if picture is not None:
            break
    return Frame(label=REAL, position=None, picture=picture, missing=missing, alt=alt)


def _seeds_note(runs: list[Run]) -> tuple[str, bool]:
    """Whether the grids show equal sample seeds and labels, from the runs' manifests."""
    runs = [run for run in runs if (samples_folder(run) / GRID).is_file()]
    shown = [[(row.get("seed"), row.get("label")) for row in sample_rows(run)] for run in runs]
    if not all(shown):
        return "no manifest says which sample seeds these are: do not compare them", True
    if any(one != shown[0] for one in shown):
        return "sample seeds or labels differ between these grids: do not compare them", True
    equal = "the same sample seeds and labels in every grid: " if len(runs) > 1 else "seeds "
    return f"{equal}{_ranges([seed for seed, _ in shown[0]] if shown else [])}", False


def _contents(run: Run) -> str:
    """``extras-unicode (seed 0), food-drink (seed 1)``, row by row."""
    named = [row for row in sample_rows(run) if "class" in row and "seed" in row]
    return ", ".join(f"{row['class']} (seed {row['seed']})" for row in named)


def _row_texts(runs: list[Run], control: str) -> str:
    """What the rows of a drift strip are, as ``drift/manifest.json`` says: control -> text."""
    manifests = (manifest(drift_folder(run.folder) / "manifest.json") for run in runs)
    return "; ".join(sorted({str(one[control]) for one in manifests if control in one}))


def _ranges(seeds: list[Any]) -> str:
    """``0 to 35``, or the first few."""
    if not seeds:
        return "none"
    first = seeds[0]
    if isinstance(first, int) and seeds == list(range(first, first + len(seeds))):
        return f"{first} to {seeds[-1]}"
    text = ", ".join(str(seed) for seed in seeds[:12])
    return f"{text}, ..." if len(seeds) > 12 else text
