# SPDX-License-Identifier: Apache-2.0
"""The table of a study as Markdown: the page's numbers, one row for each arm."""

from pippin.reports.headline import headline
from pippin.reports.markdown import markdown
from pippin.reports.report_data import open_source
from pippin.reports.tables.results_table import result_lines
from pippin.studies.runner import run_study
from pippin.system.signals import TrainingDivergedError


def cells(row):
    return [cell.strip() for cell in row.strip("|").split("|")]


def test_rows_are_arms_and_columns_are_what_was_declared(finished):
    source = open_source(finished)
    text = markdown(source)
    head, rule, *rows = (line for line in text.splitlines() if line.startswith("|"))
    assert [cell.split()[0] for cell in cells(head)] == ["arm", "drift", "effect"]
    assert set(cells(rule)) == {"---"}
    assert [cells(row)[0] for row in rows] == [
        "entangled",
        "disentangled",
        "*real images*",
        "*untrained*",
    ]
    drift = next(line for line in result_lines(source) if line.metric.name == "drift")
    assert cells(rows[0])[1] == " ".join(drift.arms[0].text.split())
    assert cells(rows[1])[1].endswith(": better")


def test_verdict_basis_and_runs_stand_around_the_table(finished):
    source = open_source(finished)
    text = markdown(source)
    found = headline(source, result_lines(source))
    assert text.startswith(f"**{found.mark}.** {found.sentence}")
    assert "- Δ: 95 % interval, 3 seeds." in text
    assert "- 6 of 6 runs, " in text and f"`{source.declaration.reproduce[-1]}`" in text


def test_only_runs_that_ended_are_counted_as_done(study, execute, tmp_path):
    def some(recipe, folder):
        if folder.name == "entangled-seed0":
            raise RuntimeError("no disk")
        if folder.name == "entangled-seed1":
            raise TrainingDivergedError("10 bad steps")
        return execute(recipe, folder)

    run_study(study, tmp_path, some, lambda text: None)
    assert "- 5 of 6 runs (1 failed, 1 diverged), " in markdown(open_source(tmp_path))
