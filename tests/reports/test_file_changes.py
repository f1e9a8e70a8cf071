# SPDX-License-Identifier: Apache-2.0
"""Files that a name stood for are recorded beside numbers, and neither split nor void them."""

import json
from dataclasses import replace

import pytest
from edited_json import edited_lines

from pippin.config import fingerprint, replace_at
from pippin.reports.comparison import obstacles
from pippin.reports.report_data import changed_files, mixed_weights, open_source
from pippin.reports.tables.results_table import result_lines, split_by_protocol
from pippin.studies.execution import result_row
from pippin.studies.results import append

FILES = {"model.sha256": "a" * 64, "model.average": "ema-share-0.05", "model.text_encoder": "e1"}


@pytest.fixture
def row(study, measure):
    def make(arm="entangled", seed=0, run=None, **files):
        recipe = replace(study.arms()[arm], seed=seed)
        if run is not None:
            recipe = replace_at(recipe, "init.run", run)
        entries = {f"model.{name}": value for name, value in files.items()}
        return result_row(study, arm, recipe, measure("drift", 0.1, protocol=entries))

    return make


def test_rows_with_and_without_digests_are_compared_as_before(row):
    rows = [row(), row(sha256="a"), row("disentangled", sha256="b", text_encoder="e")]
    rows.append(row("disentangled", 1, sha256="c", text_encoder="e", average="x", start="s"))
    assert len({one.comparable for one in rows}) == 1
    assert len({one.fingerprint for one in rows}) == 4
    assert split_by_protocol(rows) == (rows, [])
    assert obstacles(rows[0], rows[3]) == []


def test_a_study_that_was_begun_without_digests_is_ranked_with_them(finished, tmp_path):
    """As where an earlier version made half of its runs."""
    lines = edited_lines(finished / "results.jsonl")
    before = [line.arms for line in result_lines(open_source(finished))]
    folder = tmp_path / "half"
    folder.mkdir()
    (folder / "study.json").write_bytes((finished / "study.json").read_bytes())
    settings = {line["name"]: line["of"] for line in lines if line["kind"] == "settings"}
    for line in lines:
        if line["kind"] == "measure" and line["arm"] == "disentangled":
            line["protocol"] |= {f"measure.{name}": value for name, value in FILES.items()}
            whole = settings[line["settings"]] | line["protocol"]
            line["fingerprint"] = fingerprint(whole)
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (folder / "results.jsonl").write_text(text)
    source = open_source(folder)
    assert source.problems == ()
    assert [line.arms for line in result_lines(source)] == before
    assert not any(line.unranked for line in result_lines(source))


def test_another_text_encoder_under_one_name_is_said(row, finished, tmp_path):
    same = [row(text_encoder="e1"), row("disentangled", text_encoder="e1"), row()]
    assert changed_files(same) == []
    (said,) = changed_files([*same, row(seed=1, text_encoder="e2")])
    assert said.startswith("text.source ") and "(e1, e2)" in said
    append(tmp_path / "results.jsonl", [*same, row(seed=1, text_encoder="e2")])
    (tmp_path / "study.json").write_bytes((finished / "study.json").read_bytes())
    assert open_source(tmp_path).problems == (said,)


def test_another_start_under_one_name_is_said(row):
    assert changed_files([row(run="runs/a", start="1"), row(run="runs/b", start="2")]) == []
    (said,) = changed_files([row(run="runs/a", start="1"), row(seed=1, run="runs/a", start="2")])
    assert said.startswith("init.run runs/a had different files")
    # The study's own starts are trained once for every seed.
    assert changed_files([row(run="@low", start="1"), row(seed=1, run="@low", start="2")]) == []
    own = [row(run="@low", start="1"), row("disentangled", run="@low", start="2")]
    assert changed_files(own)[0].startswith("init.run @low, seed 0 had")


def test_measures_of_several_weights_of_a_run_are_said(row):
    def of(images, digest, subject="arm"):
        about = {"model.weights": "ema", "model.images_seen": images, "model.sha256": digest}
        return replace(row(), protocol=about, subject=subject)

    assert mixed_weights("r", [of(64, "a"), of(64, "a"), of(64, None)]) == []
    assert mixed_weights("r", [of(64, None), of(64, "a", "untrained")]) == []
    for other in (of(64, "b"), of(32, "a"), of(32, None)):
        (said,) = mixed_weights("r", [of(64, "a"), other])
        assert "mixes metrics of different weights of this run" in said and "ema at 64, a" in said


def test_a_changed_protocol_in_a_runs_own_results_is_named(finished, tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    source = finished / "runs" / "entangled-seed0"
    (run / "config.json").write_bytes((source / "config.json").read_bytes())
    protocol = {"data.resolution": 32, "measure.about": {"a": 1}}
    line = {"name": "drift", "value": 0.05, "low": None, "high": None, "interval_over": "none"}
    line |= {"n": 4, "unit": "", "better": "lower", "protocol": protocol}
    line["fingerprint"] = fingerprint(protocol)
    path = run / "results.jsonl"
    path.write_text(json.dumps(line) + "\n")
    found = open_source(run)
    assert [row.value for row in found.results.rows] == [0.05] and found.problems == ()
    path.write_text(path.read_text().replace('"data.resolution": 32', '"data.resolution": 64'))
    found = open_source(run)
    assert found.results.rows == ()
    assert "its protocol differs from what was written" in found.problems[0]
