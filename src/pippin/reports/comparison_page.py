# SPDX-License-Identifier: Apache-2.0
"""A page that shows two studies, or two runs, side by side."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from markupsafe import Markup

from pippin.evaluation.control_words import control_label
from pippin.reports.comparison import MEASURING, Pair, SourcePair, compared_lines, open_pair
from pippin.reports.figures.curves import learning_curves
from pippin.reports.figures.gallery import Frame, ImageGroup, gallery, sample_rows, samples_folder
from pippin.reports.figures.loss_words import NOT_COMPARABLE
from pippin.reports.figures.quality_curves import quality_curves
from pippin.reports.output_file import PAGE, refuse_other_content
from pippin.reports.page import ImageEmbedder, write_page
from pippin.reports.report import environments, grouped_details, run_lines
from pippin.reports.report_source import Run
from pippin.reports.settings import Setting, differing
from pippin.reports.tables.results_table import Line
from pippin.studies.fairness import covered

SHOWN = 12
"""Largest number of pairs of samples for each pair of arms."""


@dataclass(frozen=True, kw_only=True)
class Tile:
    """The samples of both arms for one sample seed and class."""

    caption: str
    first: Frame
    second: Frame


@dataclass(frozen=True, kw_only=True)
class Board:
    """The tiles of a pair of arms."""

    pair: Pair
    title: str
    tiles: tuple[Tile, ...]
    note: str
    """Reason for missing tiles; empty if there are tiles."""


def boards(both: SourcePair, embedder: ImageEmbedder) -> list[Board]:
    """One board for each pair of arms, from the first training seed that both arms have."""
    return [_board(both, pair, embedder) for pair in both.pairs]


def _board(both: SourcePair, pair: Pair, embedder: ImageEmbedder) -> Board:
    for seed in both.source.declaration.seeds:
        first, second = (both.source.run(arm, seed) for arm in (pair.first, pair.second))
        if first is None or second is None:
            continue
        first_rows, second_rows = _by_request(first), _by_request(second)
        shared = [key for key in first_rows if key in second_rows]
        tiles = [
            _tile(first, second, first_rows[key], second_rows[key], embedder)
            for key in shared[:SHOWN]
        ]
        note = "" if shared else "their samples have no seed and class in common"
        title = "one run each" if both.are_runs else f"training seed {seed}"
        return Board(pair=pair, title=title, tiles=tuple(tiles), note=note)
    return Board(pair=pair, title="", tiles=(), note="they have no training seed in common")


def _by_request(run: Run) -> dict[tuple[str, str], dict[str, Any]]:
    """(seed, class) -> the manifest's row of the sample."""
    rows = [row for row in sample_rows(run) if {"seed", "label", "file"} <= set(row)]
    return {(str(row["seed"]), str(row.get("class", row["label"]))): row for row in rows}


def _tile(
    first: Run,
    second: Run,
    first_row: dict[str, Any],
    second_row: dict[str, Any],
    embedder: ImageEmbedder,
) -> Tile:
    caption = f"{first_row.get('class', first_row['label'])}, seed {first_row['seed']}"
    frames = [
        _frame(run, str(row["file"]), position, caption, embedder)
        for position, (run, row) in enumerate(((first, first_row), (second, second_row)))
    ]
    return Tile(caption=caption, first=frames[0], second=frames[1])


def _frame(run: Run, name: str, position: int, caption: str, embedder: ImageEmbedder) -> Frame:
    """The frame of a sample. Manifests are untrusted: only files in the same folder are opened."""
    path = samples_folder(run) / name
    in_run_folder = path.parent == samples_folder(run) and not path.is_symlink()
    image, missing = embedder.embed(path) if in_run_folder else (None, "not a file of the run")
    alt = f"sample of {run.arm}: {caption}"
    return Frame(label=run.arm, position=position, image=image, missing=missing, alt=alt)


def render_comparison(first: Path, second: Path, out: Path | None = None) -> Path:
    """Write a page with both side by side, and return its path.

    Args:
        first: the folder of a study or of a run; called A on the page.
        second: another one of the same kind; B.
        out: the file to write; None = ``A-beside-B.html`` in the current folder.

    Raises:
        ConfigError: see :func:`pippin.reports.comparison.open_pair`; or
            the file has other content.
    """
    both = open_pair(first, second)
    name = "-beside-".join(name.replace("/", "-") for name in both.names)
    page = out or Path(f"{name}{PAGE}")
    refuse_other_content(page)
    return write_page("comparison.html.jinja", _context(both), page)


def _context(both: SourcePair) -> dict[str, Any]:
    lines = compared_lines(both)
    embedder = ImageEmbedder()
    tiles = boards(both, embedder)
    images = gallery(both.source, embedder)
    settings, idle = _differences(both)
    return {
        "title": both.source.declaration.title,
        "both": both,
        "arms": list(both.source.declaration.arms),
        "summary": _summary(both, settings, lines),
        "cautions": _cautions(both),
        "settings": settings,
        "idle": idle,
        "boards": tiles,
        "grids": _titled(both, images.samples),
        "drift": {name: _titled(both, groups) for name, groups in images.drift.items()},
        "names": {control: control_label(control) for control in images.drift},
        "lines": [line for line in lines if not line.detail],
        "groups": grouped_details(lines),
        "unranked": [line for line in lines if line.unranked],
        "curves": [(figure, Markup(figure.svg)) for figure in learning_curves(both.source)],
        "losses_note": NOT_COMPARABLE,
        "quality": [(figure, Markup(figure.svg)) for figure in quality_curves(both.source)],
        "runs": [line for line in run_lines(both.source) if line.begun],
        "environments": environments(both.source),
        "problems": both.source.problems,
    }


def _differences(both: SourcePair) -> tuple[list[Setting], list[str]]:
    """Settings in which a pair differs, and paths of other differences, which change no number."""
    differences = [
        setting
        for setting in differing(both.source.declaration)
        if setting.values[::2] != setting.values[1::2]
    ]
    measured_paths = {path for row in both.source.results.rows for path in row.protocol}
    effective = [
        setting for setting in differences if not measured_paths or setting.path in measured_paths
    ]
    marked = [
        replace(setting, mark="measured differently" if covered(setting.path, MEASURING) else "")
        for setting in effective
    ]
    return marked, [setting.path for setting in differences if setting not in effective]


def _summary(both: SourcePair, settings: list[Setting], lines: list[Line]) -> str:
    """One sentence: the number of differing settings and of metrics that may be compared."""
    count = len(settings)
    differ = "differ in no setting" if not count else f"differ in {_counted(count, 'setting')}"
    if not lines:
        return f"A and B {differ}; neither has been measured."
    barred = sum(bool(line.unranked) for line in lines)
    if not barred:
        return f"A and B {differ}, and all their common metrics were measured in the same way."
    return (
        f"A and B {differ}; {barred} of {len(lines)} metrics were measured in different ways and "
        "are not compared."
    )


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _cautions(both: SourcePair) -> list[str]:
    cautions = ["This comparison was not declared before the runs, so it gives no verdict."]
    if both.are_runs or len(both.source.declaration.seeds) == 1:
        cautions.append(
            "One training run each: intervals are over samples and do not cover the variation "
            "between training seeds."
        )
    if both.unpaired:
        cautions.append(
            f"Only one side has these arms, which are skipped: {', '.join(both.unpaired)}."
        )
    return cautions


def _titled(both: SourcePair, groups: tuple[ImageGroup, ...]) -> tuple[ImageGroup, ...]:
    """Image groups with the title of two runs, which are compared whatever their seeds are."""
    return tuple(
        replace(group, title="one run each") if both.are_runs else group for group in groups
    )
