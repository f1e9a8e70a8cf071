# SPDX-License-Identifier: Apache-2.0
"""``--out`` writes what its suffix says, and replaces nothing else."""

import csv
import re

import pytest

from pippin.cli.main import main
from pippin.config import ConfigError
from pippin.reports.markdown import markdown
from pippin.reports.output_file import check_output
from pippin.reports.report import render_report
from pippin.reports.report_data import open_source
from pippin.reports.table_file import render_table
from pippin.reports.tables.latex import escape_latex
from pippin.studies.results import append, read
from pippin.studies.statistics import over_seeds


@pytest.fixture
def study_folder(finished):
    """A study with a metric that it does not declare."""
    rows = read(finished / "results.jsonl").rows
    others = [
        type(row).from_dict(row.to_dict() | {"metric": "coverage"})
        for row in rows
        if row.metric == "effect"
    ]
    append(finished / "results.jsonl", others)
    return finished


def written(folder, out, *options):
    assert main(["report", str(folder), "--out", str(out), *options]) == 0
    return out.read_text(encoding="utf-8")


def rows_of(text):
    return list(csv.DictReader(text.splitlines()))


def test_csv_has_a_row_for_each_arm_and_metric(study_folder, tmp_path, capsys):
    out = tmp_path / "new" / "table.csv"
    rows = rows_of(written(study_folder, out))
    assert capsys.readouterr().out.strip() == str(out)
    drift = [row for row in rows if row["metric"] == "drift" and row["kind"] == "arm"]
    assert [(row["arm"], row["verdict"]) for row in drift] == [
        ("entangled", "baseline"),
        ("disentangled", "better"),
    ]
    wanted = over_seeds({seed: 0.06 + 0.001 * seed for seed in (0, 1, 2)})
    for name in ("mean", "low", "high"):
        assert float(drift[0][name]) == pytest.approx(getattr(wanted, name), abs=1e-12)
    assert (drift[0]["n"], drift[0]["samples"], drift[0]["interval"]) == ("3", "64", "seeds")
    assert {row["kind"] for row in rows} == {"arm", "untrained", "real"}
    assert {row["metric"] for row in rows} == {"drift", "effect"}
    everything = rows_of(written(study_folder, out, "--metrics", "all"))
    assert {row["metric"] for row in everything} == {"drift", "effect", "coverage"}


def test_csv_leaves_numbers_of_a_diverged_arm_empty(study, measure, tmp_path):
    from pippin.studies.runner import run_study

    def run(recipe, folder):
        entangled = recipe.conditioning.rules["label"] == "modulation"
        return [measure("drift", float("nan") if entangled else 0.1)]

    run_study(study, tmp_path / "study", run, lambda text: None)
    first, second = rows_of(written(tmp_path / "study", tmp_path / "t.csv"))
    assert (first["mean"], first["verdict"]) == ("", "diverged")
    assert float(second["mean"]) == pytest.approx(0.1) and second["verdict"] == "undecided"


def test_latex_is_a_balanced_booktabs_table(study_folder, tmp_path):
    text = written(study_folder, tmp_path / "table.tex")
    opened, closed = (re.findall(rf"\\{word}{{(\w+)}}", text) for word in ("begin", "end"))
    assert opened == ["table", "tabular"] and closed == ["tabular", "table"]
    assert all(rf"\{rule}" in text for rule in ("toprule", "midrule", "bottomrule"))
    assert "usepackage{booktabs}" in text and "<" not in text.replace("$<$", "")
    (columns,) = re.findall(r"\\begin{tabular}{(l+)}", text)
    body = text.partition(r"\toprule")[2].partition(r"\bottomrule")[0]
    rows = [line for line in body.splitlines() if line.endswith(r"\\")]
    assert len(rows) == 3  # heads, drift, effect
    assert {row.count(" & ") + 1 for row in rows} == {len(columns)}
    assert r"$0.0610" not in text and r"0.0610~$\pm$~0.0025" in text
    assert r"$\Delta$ $-$0.0210" in text and r"drift $\downarrow$" in text
    everything = written(study_folder, tmp_path / "table.tex", "--metrics", "all")
    assert everything.count("\n") == text.count("\n") + 1 and "coverage" in everything


def test_latex_specials_are_escaped():
    special = "50 % of a_b & {c} #1 $x ~ ^ \\ <tag>"
    escaped = escape_latex(special)
    assert (
        re.sub(r"\\text\w+{}|\$[<>]\$|\\[&%$#_{}]", "", escaped).translate(
            str.maketrans("", "", "0123456789abcdefghijklmnopqrstuvwxyz ")
        )
        == ""
    )
    assert escape_latex("of `a_b`\nnow") == r"of \texttt{a\_b} now"


def test_markdown_and_pages_are_what_they_were(study_folder, tmp_path):
    text = written(study_folder, tmp_path / "table.md")
    assert text == markdown(open_source(study_folder)) and "coverage" not in text
    everything = written(study_folder, tmp_path / "table.md", "--metrics", "all")
    assert everything.startswith(text.rstrip()) and "| coverage" in everything
    page = written(study_folder, tmp_path / "table.html")
    assert page.lower().startswith("<!doctype html>")
    assert written(study_folder, tmp_path / "table.html") == page  # a page is replaced


@pytest.mark.parametrize("name", ["table.pdf", "table", "table.TEX", "table.md.bak"])
def test_an_unknown_suffix_lists_the_allowed_ones(study_folder, tmp_path, name, capsys):
    with pytest.raises(ConfigError, match=r"written as \.html, \.tex, \.csv, \.md: type --out"):
        check_output(tmp_path / name)
    assert main(["report", str(study_folder), "--out", str(tmp_path / name)]) != 0
    assert not (tmp_path / name).exists()


@pytest.mark.parametrize("suffix", [".html", ".tex", ".csv", ".md"])
def test_a_file_with_other_content_is_not_replaced(study_folder, tmp_path, suffix):
    out = tmp_path / f"mine{suffix}"
    out.write_text("my own work\n")
    assert main(["report", str(study_folder), "--out", str(out)]) != 0
    assert out.read_text() == "my own work\n"
    out.write_text("")  # nothing to lose
    first = written(study_folder, out)
    assert written(study_folder, out) == first
    (tmp_path / f"folder{suffix}").mkdir()
    with pytest.raises(ConfigError, match="is a folder, not a file"):
        check_output(tmp_path / f"folder{suffix}")


def test_a_table_does_not_replace_another_kind_of_table(study_folder, tmp_path):
    out = tmp_path / "table.tex"
    out.write_text(markdown(open_source(study_folder)))
    with pytest.raises(ConfigError, match=r"no \.tex file that pippin report wrote"):
        render_table(study_folder, out)


def test_a_run_and_two_folders_have_no_table(study_folder, finished_once, tmp_path, capsys):
    run = study_folder / "runs/entangled-seed0"
    with pytest.raises(ConfigError, match=r"folder of a run.*give the folder of a study"):
        render_table(run, tmp_path / "table.csv")
    both = [str(study_folder), str(finished_once), "--out", str(tmp_path / "two.md")]
    assert main(["report", *both]) != 0
    assert "two folders is written as .html" in capsys.readouterr().err


def test_metrics_of_a_page_cannot_be_chosen(study_folder, capsys):
    assert main(["report", str(study_folder), "--metrics", "all"]) != 0
    assert "has no effect on a page" in capsys.readouterr().err


def test_contrasts_are_rows_with_their_verdicts(study, execute, tmp_path):
    from dataclasses import replace

    from pippin.studies.contrasts import difference
    from pippin.studies.runner import run_study

    first, second = study.arms()
    lower = difference(
        first, second, "drift", name="less drift", claim="It falls.", predicted="negative"
    )
    run_study(replace(study, contrasts=(lower,)), tmp_path / "s", execute, lambda text: None)
    rows = rows_of(written(tmp_path / "s", tmp_path / "t.csv"))
    (row,) = [row for row in rows if row["kind"] == "contrast"]
    assert (row["arm"], row["verdict"], row["n"]) == ("less drift", "supported", "3")
    assert float(row["mean"]) == pytest.approx(-0.021) and row["unit"] == "distance"
    arms = {row["verdict"] for row in rows if row["kind"] == "arm"}
    assert arms == {"baseline", "exploratory"}  # only contrasts decide
    text = written(tmp_path / "s", tmp_path / "t.tex")
    assert text.count(r"\begin{tabular}") == 2 and "supported" in text
    assert render_report(tmp_path / "s").is_file()
