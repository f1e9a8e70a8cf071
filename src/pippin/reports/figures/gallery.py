# SPDX-License-Identifier: Apache-2.0
"""Images side by side: sample grids at equal seeds, and drift strips.

Only this module knows where a run keeps its images: :func:`samples_folder` and
:func:`drift_folder`.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pippin.control import PROBED_CONTROLS
from pippin.evaluation.control_words import control_label
from pippin.evaluation.metric_registry import find_metric
from pippin.reports.figures.prompts import prompt_texts
from pippin.reports.page import ABSENT, EmbeddedImage, ImageEmbedder
from pippin.reports.report_source import Run, Source
from pippin.runs.folder import RunFolder
from pippin.system.files import read_regular
from pippin.system.formats import parse_json

_ROWS = re.compile(r"top row: (\S+) = \(([^)]*)\); bottom row: \(([^)]*)\)")


@dataclass(frozen=True, kw_only=True)
class Rows:
    """Labels of the two rows."""

    top: str
    bottom: str
    """Labels beside the rows; both empty if the manifest has another format."""
    sentence: str
    """Both labels in one sentence; the manifest's text if it has another format."""


def read_rows(control: str, text: str) -> Rows:
    """Labels from a strip's manifest: ``top row: flip = (0.0,); bottom row: (1.0,)``."""
    match = _ROWS.fullmatch(text.strip())
    values = [_numbers(match[2]), _numbers(match[3])] if match else []
    if not match or match[1] != control or not all(values):
        return Rows(top="", bottom="", sentence=text.strip())
    top, bottom = (_label(control, value) for value in values)
    return Rows(top=top, bottom=bottom, sentence=f"top row: {top}; bottom row: {bottom}")


def _numbers(text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",") if part.strip()]
    except ValueError:
        return []


def _label(control: str, values: list[float]) -> str:
    plain = " x ".join(f"{value:g}" for value in values)
    if control == "original_size":
        size = f"{values[0]:g}" if len(set(values)) == 1 else plain
        return f"requested {size} px"
    if control == "flip":
        return "mirrored" if values[0] else "not mirrored"
    if control == "crop_corner":
        return f"cut from {plain} px" if any(values) else "cut from the top left corner"
    return f"{control} = {plain}"


SEEDS_SHOWN = 3
"""Number of training seeds whose images are shown: a page with all of them would be too large."""
GRID, REAL = "grid.png", "real images"


@dataclass(frozen=True, kw_only=True)
class Frame:
    """An image with its label, or the reason why it is missing."""

    label: str
    position: int | None
    """Index of the arm; None for real images."""
    image: EmbeddedImage | None
    missing: str
    alt: str
    """Text alternative of the image."""


@dataclass(frozen=True, kw_only=True)
class ImageGroup:
    """Images that are shown together."""

    title: str
    note: str
    warning: bool
    """True if the note says that the images should not be compared."""
    frames: tuple[Frame, ...]
    rows: Rows | None = None
    """Labels of the two rows of a drift strip."""
    contents: str = ""
    """Seed and class of every image of a grid, row by row."""
    prompts: tuple[str, ...] = ()
    """Prompt and seed of every image of a grid, row by row, for a model of captions."""


@dataclass(frozen=True, kw_only=True)
class Gallery:
    """All images of a page."""

    samples: tuple[ImageGroup, ...]
    """One group for each training seed."""
    drift: dict[str, tuple[ImageGroup, ...]]
    """Control -> one group for each training seed; the control of the primary metric first."""


def samples_folder(run: Run) -> Path:
    """Folder with ``grid.png``, single samples and their manifest of a run's evaluation; that of
    ``pippin sample`` if the run was not evaluated."""
    evaluated = RunFolder(run.folder).evaluated_samples
    return evaluated if evaluated.is_dir() else run.folder / "samples"


def drift_folder(folder: Path) -> Path:
    """Folder with the drift strips of a run, or of real images."""
    return folder / "drift"


def gallery(source: Source, embedder: ImageEmbedder) -> Gallery:
    """The images of the first seeds, the most useful ones first: later ones are skipped, with a
    note, where the page would become too large."""
    samples: list[ImageGroup] = []
    drift: dict[str, list[ImageGroup]] = {control: [] for control in _controls(source)}
    for seed in source.declaration.seeds[:SEEDS_SHOWN]:
        runs = [run for run in source.runs if run.seed == seed]
        samples += _with_arms([_sample_group(source, runs, seed, embedder)])
        for control, groups in drift.items():
            groups += _with_arms(
                [_drift_group(source, runs, seed, control, embedder, first=not groups)]
            )
    return Gallery(
        samples=tuple(samples),
        drift={control: tuple(groups) for control, groups in drift.items() if groups},
    )


def manifest(path: Path) -> dict[str, Any]:
    """The content of a manifest; empty if it cannot be read."""
    try:
        values = parse_json(read_regular(path))
    except (OSError, ValueError):
        return {}
    return values if isinstance(values, dict) else {}


def sample_rows(run: Run) -> list[dict[str, Any]]:
    """The manifest's entry of each sample: seed, label, class, file."""
    images = manifest(samples_folder(run) / "manifest.json").get("images")
    rows = images if isinstance(images, list) else []
    return [row for row in rows if isinstance(row, dict)]


def _with_arms(groups: list[ImageGroup]) -> list[ImageGroup]:
    return [group for group in groups if any(frame.position is not None for frame in group.frames)]


def _controls(source: Source) -> list[str]:
    controls = {
        path.stem for run in source.runs for path in drift_folder(run.folder).glob("*.png")
    }
    primary = find_metric(source.declaration.primary or "").control
    order = {control: index for index, control in enumerate(PROBED_CONTROLS)}

    def rank(control: str) -> tuple[bool, int, str]:
        return control != primary, order.get(control, len(order)), control

    return sorted(controls, key=rank)


def _sample_group(
    source: Source, runs: list[Run], seed: int, embedder: ImageEmbedder
) -> ImageGroup:
    note, warning = _seeds_note(runs)
    frames = []
    for run in runs:
        classes = list(dict.fromkeys(str(row.get("class", "")) for row in sample_rows(run)))
        alt = f"grid of samples of {run.arm}, training seed {seed}"
        alt += f"; classes: {', '.join(classes)}" if any(classes) else ""
        alt += "; of the prompts listed below" if _prompts(run) else ""
        frames.append(_frame(source, run.arm, samples_folder(run) / GRID, alt, embedder))
    return ImageGroup(
        title=f"training seed {seed}",
        note=note,
        warning=warning,
        frames=_unless_all_missing(frames),
        contents="" if warning else next(filter(None, map(_contents, runs)), ""),
        prompts=() if warning else next(filter(None, map(_prompts, runs)), ()),
    )


def _drift_group(
    source: Source,
    runs: list[Run],
    seed: int,
    control: str,
    embedder: ImageEmbedder,
    *,
    first: bool,
) -> ImageGroup:
    rows = read_rows(control, _row_texts(runs, control))
    alt = f"; {rows.sentence}" if rows.sentence else ""
    frames = [
        _frame(
            source,
            run.arm,
            drift_folder(run.folder) / f"{control}.png",
            f"pairs of samples of {run.arm} under two values of {control_label(control)}{alt}",
            embedder,
        )
        for run in runs
    ]
    shown = _unless_all_missing(frames)
    if shown and first:  # real images do not depend on the training seed
        folders = [source.folder, *(run.folder for run in runs)]
        real = f"the same pairs of real images{alt}"
        shown = (
            *shown,
            _real_frame([folder / "real" for folder in folders], control, real, embedder),
        )
    title = f"training seed {seed}"
    return ImageGroup(title=title, note="", warning=False, frames=shown, rows=rows)


def _unless_all_missing(frames: Iterable[Frame]) -> tuple[Frame, ...]:
    all_frames = tuple(frames)
    any_written = any(frame.image or frame.missing != ABSENT for frame in all_frames)
    return all_frames if any_written else ()


def _frame(source: Source, arm: str, path: Path, alt: str, embedder: ImageEmbedder) -> Frame:
    image, missing = embedder.embed(path)
    position = list(source.declaration.arms).index(arm)
    return Frame(label=arm, position=position, image=image, missing=missing, alt=alt)


def _real_frame(folders: list[Path], control: str, alt: str, embedder: ImageEmbedder) -> Frame:
    """The frame with the drift strip of real pairs, from the study's folder or a run's."""
    missing = ABSENT
    for folder in folders:
        image, missing = embedder.embed(drift_folder(folder) / f"{control}.png")
        if image is not None:
            break
    return Frame(label=REAL, position=None, image=image, missing=missing, alt=alt)


def _seeds_note(runs: list[Run]) -> tuple[str, bool]:
    """A note on sample seeds and labels of the grids, and whether it is a warning."""
    runs = [run for run in runs if (samples_folder(run) / GRID).is_file()]
    shown = [
        [(row.get("seed"), row.get("label", row.get("prompt"))) for row in sample_rows(run)]
        for run in runs
    ]
    if not all(shown):
        return "no manifest states the sample seeds of these grids: do not compare them", True
    if any(rows != shown[0] for rows in shown):
        return "sample seeds or labels differ between these grids: do not compare them", True
    equal = "the same sample seeds and labels in every grid: " if len(runs) > 1 else "seeds "
    return f"{equal}{_ranges([seed for seed, _ in shown[0]] if shown else [])}", False


def _contents(run: Run) -> str:
    """``extras-unicode (seed 0), food-drink (seed 1)``, row by row."""
    named = [row for row in sample_rows(run) if "class" in row and "seed" in row]
    return ", ".join(f"{row['class']} (seed {row['seed']})" for row in named)


def _prompts(run: Run) -> tuple[str, ...]:
    return prompt_texts(sample_rows(run))


def _row_texts(runs: list[Run], control: str) -> str:
    """Text of ``drift/manifest.json`` about the rows of a control's drift strip."""
    manifests = (manifest(drift_folder(run.folder) / "manifest.json") for run in runs)
    texts = {str(strips[control]) for strips in manifests if control in strips}
    return "; ".join(sorted(texts))


def _ranges(seeds: list[Any]) -> str:
    """``0 to 35`` for consecutive seeds, otherwise the first few."""
    if not seeds:
        return "none"
    first = seeds[0]
    if isinstance(first, int) and seeds == list(range(first, first + len(seeds))):
        return f"{first} to {seeds[-1]}"
    text = ", ".join(str(seed) for seed in seeds[:12])
    return f"{text}, ..." if len(seeds) > 12 else text
