# SPDX-License-Identifier: Apache-2.0
"""The study `rankings`: arms that differ in method and condition alone, and its report."""

import csv
import importlib.util
import io
from pathlib import Path

import pytest

from pippin.config import difference
from pippin.evaluation.measure import Measure
from pippin.reports.contrast_headline import study_headline
from pippin.reports.inline import source_markdown
from pippin.reports.report import render_report
from pippin.reports.report_data import open_source
from pippin.reports.table_file import render_table
from pippin.reports.tables.results_table import result_lines
from pippin.studies.runner import run_study
from pippin.studies.shipped.options import FeatureChoice, with_features
from pippin.studies.shipped.rankings import METHODS
from pippin.studies.shipped.table import STUDIES, get_study

SCALES = STUDIES["rankings"].scales
CLAIMS_TABLE = Path(__file__).parents[3] / "scripts" / "claims_table.py"


@pytest.mark.parametrize("scale", SCALES)
def test_arms_differ_in_method_and_condition_alone(scale):
    arms = get_study("rankings", scale=scale).arms()
    assert list(arms) == [f"{m}-{c}" for c in ("class", "text") for m in METHODS]
    for method in METHODS:
        changed = difference(arms[f"{method}-class"], arms[f"{method}-text"])
        sections = {path.rsplit(".", 1)[0] for path in changed}
        assert sections <= {"conditioning", "conditioning.semantic", "text"}
        assert arms[f"{method}-class"].conditioning.rules == {"label": "attention"}
        assert arms[f"{method}-text"].conditioning.rules == {"text": "attention"}
    for condition in ("class", "text"):
        first = arms[f"dit-{condition}"]
        for method in METHODS[1:]:
            changed = difference(first, arms[f"{method}-{condition}"])
            assert changed and all(path.startswith("denoiser.") for path in changed)


def test_the_claim_is_declared_for_both_conditions():
    study = get_study("rankings", scale="cpu")
    primary = study.agreements[0]
    assert primary.role == "primary" and primary.metrics == ("held-out loss",)
    assert all(one.role == "secondary" for one in study.agreements[1:])
    assert len(study.seeds) == 5 and primary.smallest_effect == 0.5
    other = with_features(study, FeatureChoice(kind="dinov2", weights="weights"))
    other.check()
    assert other.agreements[1].metrics == ("FD-dinov2",)
    assert "FD-efflite0" not in other.declared_metrics


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Equal orders by held-out loss; reversed ones by FD; accuracies of another protocol."""
    study = get_study("rankings", seeds=(0, 1, 2), scale="cpu")
    methods = {study.arms()[f"{method}-class"].denoiser: k for k, method in enumerate(METHODS)}

    def execute(recipe, folder):
        place, noise = methods[recipe.denoiser], 0.001 * (recipe.seed % 3)
        of_text = recipe.conditioning.semantic.kind == "text"
        values = {
            "held-out loss": (0.1 + 0.02 * place + noise, "lower", {}),
            "FD-efflite0": (2.0 + noise + 0.1 * (5 - place if of_text else place), "lower", {}),
            "accuracy all": (0.1 + noise, "higher", {"captions": [f"text {of_text}"]}),
        }
        return [
            Measure(
                name=name,
                value=value,
                low=None,
                high=None,
                interval_over="none",
                n=256,
                unit="",
                better=better,
                protocol=protocol,
            )
            for name, (value, better, protocol) in values.items()
        ]

    place = tmp_path_factory.mktemp("rankings")
    run_study(study, place, execute, lambda text: None)
    return place


def test_the_report_shows_verdict_interval_and_ranks(folder, tmp_path):
    page = render_report(folder, tmp_path / "page.html").read_text(encoding="utf-8")
    assert "Declared agreements of rankings" in page and "Declared contrasts" not in page
    assert "</span> Denoisers with a lower held-out loss by class" in page
    assert "1.00 [1.00, 1.00] (3 seeds)" in page
    assert "\N{MINUS SIGN}1.00 [\N{MINUS SIGN}1.00, \N{MINUS SIGN}1.00] (3 seeds)" in page
    assert "rank by text" in page and ">decides<" not in page and ": better<" not in page
    assert "Only the primary agreement of rankings decides." in page
    assert page.count("sizes of one name differ in parameters and FLOPs") == 1
    assert '<th scope="row" role="rowheader"><code>denoiser.kind</code><small>method<' in page
    assert "Control drift" not in page and 'id="drift"' not in page  # not part of its evaluation
    assert "12 arms" in page and "dit-class against" not in page
    assert "Supported" in source_markdown(open_source(folder))


def test_strips_that_decide_nothing_say_so(folder):
    source = open_source(folder)
    strips = study_headline(source, result_lines(source)).strips
    assert [strip.label for strip in strips][:2] == [
        "held-out loss",
        "quality of samples (exploratory)",
    ]


def test_tables_hold_the_agreements(folder, tmp_path):
    text = render_table(folder, tmp_path / "table.md").read_text(encoding="utf-8")
    assert text.startswith("**Supported.** Denoisers with a lower")
    head = "| method | class by held-out loss | rank by class | text by held-out loss | rank"
    assert head in text and "| claim | Spearman | Kendall |" in text
    ranks = [line for line in text.splitlines() if line.startswith("| ddt |")]
    assert ranks[0].split(" | ")[2] == "3" and ranks[1].strip("| ").endswith("4")
    claims = [
        line.strip("| ").split(" | ") for line in text.splitlines() if " | exploratory |" in line
    ]
    assert [cells[4] for cells in claims] == ["\N{EN DASH}"] * 2  # never supported, so no power
    latex = render_table(folder, tmp_path / "table.tex").read_text(encoding="utf-8")
    assert "tab:rankings-cpu-agreements" in latex
    content = render_table(folder, tmp_path / "table.csv").read_text(encoding="utf-8")
    rows = [row for row in csv.DictReader(io.StringIO(content)) if row["kind"] == "agreement"]
    assert [row["verdict"] for row in rows] == ["supported", "exploratory", "exploratory"]
    assert [float(row["mean"]) for row in rows[:2]] == [1.0, -1.0]


def test_an_agreement_can_be_a_row_of_the_table_of_claims(folder, monkeypatch):
    spec = importlib.util.spec_from_file_location("claims_table", CLAIMS_TABLE)
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    monkeypatch.setattr(script, "RESULTS", folder.parent)
    claim = {"study": folder.name, "agreement": "held-out loss"}
    assert script.finding(claim) == ("supported", "Spearman 1.00 [1.00, 1.00]", 3)
    with pytest.raises(KeyError, match="unknown"):
        script.finding(claim | {"agreement": "unknown"})
