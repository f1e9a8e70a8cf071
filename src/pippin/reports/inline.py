# SPDX-License-Identifier: Apache-2.0
"""Results and figures of a study or a run inside a notebook; the page has more."""

from typing import TYPE_CHECKING

from markupsafe import Markup

from pippin.reports.contrast_headline import study_headline
from pippin.reports.tables.results_table import ABSENT, result_lines
from pippin.reports.tables.table_lines import Line
from pippin.system.display import html_table, html_text, markdown_table, markdown_text

if TYPE_CHECKING:
    from pippin.reports.figures.curves import Figure
    from pippin.reports.report_source import Source

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#b8608f", "#a87400", "#2e8fc7")
"""Colours of the arms, as ``--arm-0`` ... in report.css."""


def source_html(source: "Source") -> str:
    """Verdict and declared metrics of a study, or all metrics of a run, as HTML."""
    sentence, lines = _sentence(source)
    head = Markup("<p><strong>{}</strong> {}</p>").format(*map(html_text, sentence))
    problems = Markup().join(
        Markup("<p>{}</p>").format(html_text(problem)) for problem in source.problems
    )
    return f"{head}{html_table(*_table(source, lines))}{problems}"


def source_markdown(source: "Source") -> str:
    """The same as Markdown."""
    (mark, sentence), lines = _sentence(source)
    head = f"**{markdown_text(mark)}** {markdown_text(sentence)}"
    problems = [f"- {markdown_text(problem)}" for problem in source.problems]
    return "\n\n".join([head, markdown_table(*_table(source, lines)), *problems])


def _sentence(source: "Source") -> tuple[tuple[str, str], list[Line]]:
    """Mark and sentence of the verdict, and the lines of the table."""
    lines = result_lines(source)
    if not source.is_study:
        return (f"{source.declaration.name}.", "One run; a study gives a verdict."), lines
    headline = study_headline(source, lines)
    return (f"{headline.mark}.", headline.sentence), [line for line in lines if line.role]


def _table(source: "Source", lines: list[Line]) -> tuple[list[str], list[list[str]]]:
    """Headings and rows: one row for each metric, one column for each arm and reference."""
    references = {
        name: cells
        for name, cells in (
            ("real images", [line.real for line in lines]),
            ("untrained", [line.untrained for line in lines]),
        )
        if any(cell is not ABSENT for cell in cells)
    }
    rows = []
    for index, line in enumerate(lines):
        cells = (*line.arms, *(column[index] for column in references.values()))
        rows.append(
            [f"{line.metric.label} {line.sign}".rstrip(), *(cell.full_text for cell in cells)]
        )
    return ["metric", *source.declaration.arms, *references], rows


def figure_html(figure: "Figure") -> str:
    """A figure with legend and caption; colours and sizes need no style sheet of a page."""
    caption = Markup("<figcaption><strong>{}</strong>: {}</figcaption>").format(
        html_text(figure.title), html_text(figure.caption)
    )
    if figure.sentence:
        return f"<figure>{caption}<p>{html_text(figure.sentence)}</p></figure>"
    legend = Markup("; ").join(
        Markup('<span style="color:{}">■</span> {} {}').format(
            COLOURS[key.position % len(COLOURS)],
            html_text(key.arm),
            html_text(f"{figure.says} {key.end}" if key.end else "has no curve"),
        )
        for key in figure.legend
    )
    svg = figure.svg
    for position, colour in enumerate(COLOURS):
        svg = svg.replace(f"var(--arm-{position})", colour)
    style = "max-width:40em;margin:0"
    return f'<figure style="{style}">{caption}<p>{legend}</p>{svg}</figure>'
