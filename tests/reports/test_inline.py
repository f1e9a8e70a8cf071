# SPDX-License-Identifier: Apache-2.0
"""Results, runs and figures as a notebook shows them: the page's numbers, escaped."""

import json
import re
from dataclasses import replace
from pathlib import Path

from edited_json import write_edited
from html_page import Page

from pippin import reports
from pippin.reports.contrast_headline import study_headline
from pippin.reports.figures.curves import COLOURS, Figure, LegendEntry, learning_curves
from pippin.reports.inline import COLOURS as INLINE_COLOURS
from pippin.reports.report_data import open_source
from pippin.reports.tables.results_table import result_lines
from pippin.studies.runner import Summary
from pippin.system.display import markdown_text

HOSTILE = "<script>alert('x')</script>"


def test_the_table_has_the_numbers_of_the_page(finished):
    source = open_source(finished)
    page = Page(source._repr_html_())
    text = " ".join(page.text)
    lines = result_lines(source)
    headline = study_headline(source, lines)
    assert headline.mark in text and headline.sentence in text
    heads = [text for text in page.text if text in ("entangled", "disentangled", "real images")]
    assert heads == ["entangled", "disentangled", "real images"]
    for line in lines:
        assert line.role and line.metric.label in text
        assert all(cell.text in text for cell in line.arms)


def test_markdown_has_the_same_cells(finished):
    source = open_source(finished)
    table = [line for line in source._repr_markdown_().splitlines() if line.startswith("|")]
    assert len(table) == 2 + len(result_lines(source))
    assert table[0].split(" | ")[1:3] == ["entangled", "disentangled"]
    for line, row in zip(result_lines(source), table[2:], strict=True):
        cells = [text.strip() for text in row.strip("| ").split(" | ")]
        assert cells[0].startswith(markdown_text(line.metric.label))
        assert cells[1:3] == [markdown_text(cell.full_text) for cell in line.arms]


def test_a_terminal_shows_no_log(finished):
    source = open_source(finished)
    name, count = source.declaration.name, len(source.runs)
    assert repr(source) == f"{name}: {count} runs in {finished}"
    assert "<svg" not in repr(learning_curves(source)[0])


def test_hostile_names_are_text(finished):
    path = finished / "study.json"
    declared = json.loads(path.read_text())
    for name in ("arms", "combinations"):
        declared[name][HOSTILE] = declared[name]["entangled"]
    write_edited(path, declared)
    source = open_source(finished)
    page = Page(source._repr_html_())
    assert "script" not in {tag for tag, _ in page.elements} and HOSTILE in page.text
    assert "<" not in source._repr_markdown_()
    for figure in learning_curves(source):
        assert "script" not in {tag for tag, _ in Page(figure._repr_html_()).elements}


def test_a_single_run_has_no_verdict(finished):
    source = open_source(finished / "runs" / "entangled-seed0")
    assert "a study gives a verdict" in source._repr_html_()


def test_a_figure_needs_no_style_sheet(finished):
    figures = learning_curves(open_source(finished))
    assert figures
    for figure in figures:
        html = figure._repr_html_()
        assert "var(" not in html and html.count("<svg") == 1
        assert figure.title in " ".join(Page(html).text)


def test_a_figure_of_single_values_is_a_sentence():
    legend = (LegendEntry(arm="a", position=0, end="1"),)
    figure = Figure(title="t", caption="c", svg="<svg/>", legend=legend, sentence="a: 1 & 2")
    assert "a: 1 &amp; 2" in figure._repr_html_() and "svg" not in figure._repr_html_()


def test_text_that_looks_like_a_colour_stays_text():
    legend = (LegendEntry(arm="var(--arm-99)", position=0, end="1"),)
    figure = Figure(title="t", caption="c", svg="<svg>var(--arm-99)</svg>", legend=legend)
    assert figure._repr_html_().count("var(--arm-99)") == 2


def test_arms_have_the_colours_of_the_page():
    """Those of light pages, which the style sheet declares first."""
    sheet = (Path(reports.__file__).parent / "templates" / "report.css").read_text()
    declared = re.findall(r"--arm-(\d): (#\w+);", sheet)[:COLOURS]
    assert [int(position) for position, _ in declared] == [*range(COLOURS)]
    assert list(INLINE_COLOURS) == [colour for _, colour in declared]
    assert len({*INLINE_COLOURS}) == COLOURS


def test_the_summary_of_a_study_lists_its_runs():
    summary = Summary(statuses={"a-seed0": "finished", HOSTILE: "failed"}, interrupted=False)
    page = Page(summary._repr_html_())
    assert page.text == ["run", "status", "a-seed0", "finished", HOSTILE, "failed"]
    assert "<" not in summary._repr_markdown_()
    assert "the same call resumes it" in replace(summary, interrupted=True)._repr_markdown_()
