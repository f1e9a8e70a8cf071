# SPDX-License-Identifier: Apache-2.0
"""A page that shows two studies, or two runs, beside each other."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from markupsafe import Markup

from pippin.study.comparison import compared_lines
from pippin.study.fairness import covered
from pippin.study.figures import learning_curves
from pippin.study.gallery import Wall, gallery
from pippin.study.glossary import control_name
from pippin.study.page import write_page
from pippin.study.pictures import Album
from pippin.study.report import environments, grouped_details, run_lines
from pippin.study.settings import Setting, differing
from pippin.study.side_by_side import MEASURING, Both, open_both
from pippin.study.table import Line
from pippin.study.tiles import boards


def render_comparison(first: Path, second: Path, out: Path | None = None) -> Path:
    """Write a page with both side by side, and return its path.

    Args:
        first: the folder of a study or of a run; called A on the page.
        second: another one of the same kind; B.
        out: the file to write; None = ``A-beside-B.html`` in the current folder.

    Raises:
        ConfigError: see :func:`pippin.study.side_by_side.open_both`.
    """
    both = open_both(first, second)
    name = "-beside-".join(one.replace("/", "-") for one in both.names)
    return write_page("comparison.html.jinja", _context(both), out or Path(f"{name}.html"))


def _context(both: Both) -> dict[str, Any]:
    lines = compared_lines(both)
    album = Album()
    tiles = boards(both, album)
    pictures = gallery(both.source, album)
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
        "grids": _titled(both, pictures.samples),
        "drift": {name: _titled(both, walls) for name, walls in pictures.drift.items()},
        "names": {control: control_name(control) for control in pictures.drift},
        "lines": [line for line in lines if not line.detail],
        "groups": grouped_details(lines),
        "unranked": [line for line in lines if line.unranked],
        "curves": [(one, Markup(one.svg)) for one in learning_curves(both.source)],
        "runs": [line for line in run_lines(both.source) if line.known],
        "environments": environments(both.source),
        "problems": both.source.problems,
    }


def _differences(both: Both) -> tuple[list[Setting], list[str]]:
    """Settings in which a pair differs, and the paths of those that can change no number."""
    found = [
        setting
        for setting in differing(both.source.declaration)
        if setting.values[::2] != setting.values[1::2]
    ]
    known = {path for row in both.source.results.rows for path in row.protocol}
    live = [one for one in found if not known or one.path in known]
    marked = [
        replace(one, mark="measured differently" if covered(one.path, MEASURING) else "")
        for one in live
    ]
    return marked, [one.path for one in found if one not in live]


def _summary(both: Both, settings: list[Setting], lines: list[Line]) -> str:
    """One sentence: how much differs, and how much may be compared."""
    count = len(settings)
    differ = "differ in no setting" if not count else f"differ in {_counted(count, 'setting')}"
    if not lines:
        return f"A and B {differ}; neither has been measured."
    barred = sum(bool(line.unranked) for line in lines)
    if not barred:
        return f"A and B {differ}, and all that both measured was measured in the same way."
    return (
        f"A and B {differ}; {barred} of {len(lines)} metrics were measured in different ways and "
        "are not compared."
    )


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _cautions(both: Both) -> list[str]:
    cautions = ["This comparison was not declared before the runs, so it gives no verdict."]
    if both.are_runs or len(both.source.declaration.seeds) == 1:
        cautions.append(
            "One training run each: intervals are over samples, and say nothing of how other "
            "training seeds would come out."
        )
    if both.alone:
        cautions.append(f"Only one side has these arms, left out here: {', '.join(both.alone)}.")
    return cautions


def _titled(both: Both, walls: tuple[Wall, ...]) -> tuple[Wall, ...]:
    """Two runs are shown together whatever their training seeds are."""
    return tuple(replace(one, title="one run each") if both.are_runs else one for one in walls)
