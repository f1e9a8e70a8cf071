# SPDX-License-Identifier: Apache-2.0
"""A study's verdict and declared metrics as Markdown: for a README, an issue or a draft."""

from pathlib import Path

from pippin.config import ConfigError
from pippin.study.contrast_headline import study_headline
from pippin.study.contrast_source import evaluate_contrasts
from pippin.study.contrast_table import HEADS, READING, ContrastLine, contrast_lines
from pippin.study.published import CAUTION, HEADING, PublishedFigure, published_figures
from pippin.study.results import Outcome
from pippin.study.source import Source, open_source
from pippin.study.table import ABSENT, NEAREST_NOTE, SIGNS, Cell, Line, result_lines
from pippin.system.files import remove_staged, write_text

SUFFIX = ".md"
"""Of a file that gets this instead of the page."""


def render_markdown(folder: Path, out: Path) -> Path:
    """Write verdict and table of a study, and return the file's path.

    Raises:
        ConfigError: the folder is not that of a study.
    """
    source = open_source(folder)
    if not source.is_study:
        raise ConfigError(
            f"{folder} is the folder of a run; a table in Markdown compares the arms of a study: "
            "give the folder of one, or an --out that ends in .html"
        )
    remove_staged(out.parent, out.name)  # of a call that was killed
    write_text(out, markdown(source))
    return out


def markdown(source: Source) -> str:
    """Verdict, contrasts, one row for each arm with the declared metrics, and the runs.

    Differences are to the first arm, over common seeds, as on the page of the study.
    """
    lines = result_lines(source)
    declared = [line for line in lines if line.role]
    found = study_headline(source, lines)
    contrasts = contrast_lines(source, evaluate_contrasts(source))
    parts = [f"**{found.mark}.** {found.sentence}", *_contrasts(contrasts)]
    parts.append(_table(source, declared))
    primary = [] if contrasts else declared[:1]
    basis = [one.basis for line in primary for one in line.comparisons if one.basis]
    reasons = [one.reason for line in primary for one in line.comparisons if one.reason]
    notes = [f"Δ: {text}." for text in dict.fromkeys(basis)]
    notes += [NEAREST_NOTE] if any(line.term.target for line in declared) else []
    if contrasts:
        notes += [*READING, *(f"{one.name}: {one.formula}. {one.reason}" for one in contrasts)]
    if source.declaration.prediction:
        notes.append(f"Predicted before the run: {source.declaration.prediction}")
    notes += [*dict.fromkeys(reasons), *found.cautions, _runs(source)]
    parts.append("\n".join(f"- {_plain(note)}" for note in notes))
    if figures := published_figures(source.declaration):
        parts += [f"{HEADING}. {CAUTION}", "\n".join(map(_published, figures))]
    return "\n\n".join(parts) + "\n"


def _contrasts(lines: list[ContrastLine]) -> list[str]:
    """The table of contrasts, and what the one behind it is; empty without contrasts."""
    if not lines:
        return []
    rows = [list(HEADS), ["---"] * len(HEADS)]
    rows += [[f"{one.name}: {one.claim}", *one.cells] for one in lines]
    table = "\n".join(f"| {' | '.join(map(_plain, row))} |" for row in rows)
    return [table, "Exploratory: means of the arms; Δ to the first arm is not a verdict."]


def _published(one: PublishedFigure) -> str:
    """A line of a list: a table of its own would invite comparison."""
    where = f"{one.dataset}, {one.resolution} px"
    return f"- {one.model} on {where}: {one.metric} {one.value} ({one.protocol}; {one.source})"


def _table(source: Source, lines: list[Line]) -> str:
    heads = ["arm", *(f"{line.term.label}{_arrow(line)}" for line in lines)]
    rows = [heads, ["---"] * len(heads)]
    for place, arm in enumerate(source.declaration.arms):
        rows.append([arm, *(_cell(line.arms[place]) for line in lines)])
    for name, cells in (
        ("real pictures", [line.real for line in lines]),
        ("untrained", [line.untrained for line in lines]),
    ):
        if any(cell is not ABSENT for cell in cells):
            rows.append([f"*{name}*", *(_cell(cell) for cell in cells)])
    return "\n".join(f"| {' | '.join(map(_plain, row))} |" for row in rows)


def _arrow(line: Line) -> str:
    return f" {line.better[0]}" if line.better[:1] in SIGNS else ""


def _cell(cell: Cell) -> str:
    remark = f" ({cell.remark})" if cell.remark else ""
    return f"{cell.text}{remark}" + (f"; {cell.delta}" if cell.delta else "")


def _plain(text: str) -> str:
    """On one line, with bars that do not end a cell."""
    return " ".join(text.split()).replace("|", "\\|")


def _runs(source: Source) -> str:
    """How many runs, and the wall time that they took."""
    outcomes: dict[tuple[str, int], Outcome] = {}
    for one in source.results.outcomes:
        outcomes[one.arm, one.seed] = one
    minutes = round(sum(one.wall_seconds for one in outcomes.values()) / 60)
    hours, rest = divmod(minutes, 60)
    time = f"{hours} h {rest} min" if hours else f"{rest} min"
    total = len(source.declaration.arms) * len(source.declaration.seeds)
    commands = "".join(f"; `{line}`" for line in source.declaration.reproduce[-1:])
    lost = [
        f"{count} {status}"
        for status in ("failed", "diverged")
        if (count := sum(one.status == status for one in outcomes.values()))
    ]
    done = sum(one.status != "failed" for one in outcomes.values())
    said = f" ({', '.join(lost)})" if lost else ""
    return f"{done} of {total} runs{said}, {time} of wall time together{commands}"
