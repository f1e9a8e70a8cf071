# SPDX-License-Identifier: Apache-2.0
"""Two reports side by side: numbers are compared only where they were measured alike."""

import json
from dataclasses import replace

import pytest
from edited_json import write_edited
from html_page import Page

from pippin.config import ConfigError, replace_at
from pippin.reports.comparison import compared_lines, open_pair
from pippin.reports.comparison_page import boards, render_comparison
from pippin.reports.page import ImageEmbedder
from pippin.studies.runner import run_study


@pytest.fixture
def other(study, execute, tmp_path):
    """Makes a second study whose base differs in some settings; drift is the same."""

    def make(name="other", **settings):
        base = study.base
        for path, value in settings.items():
            base = replace_at(base, path.replace("__", "."), value)
        run_study(replace(study, base=base), tmp_path / name, execute, lambda text: None)
        return tmp_path / name

    return make


def run_of(folder, arm="entangled", seed=0):
    """A run's folder with its own results, as ``pippin train`` and ``evaluate`` write it."""
    run = folder / "runs" / f"{arm}-seed{seed}"
    drift = {"name": "drift", "value": 0.05, "low": 0.04, "high": 0.06, "interval_over": "samples"}
    drift |= {"n": 64, "unit": "distance", "better": "lower"}
    (run / "results.jsonl").write_text(json.dumps(drift) + "\n")
    return run


def drift_line(first, second):
    return next(
        line for line in compared_lines(open_pair(first, second)) if line.metric.name == "drift"
    )


def words(first, second, tmp_path):
    page = Page(render_comparison(first, second, tmp_path / "two.html").read_text("utf-8"))
    return " ".join(" ".join(page.text).split())


def test_trained_differently_is_compared_seed_by_seed(finished, other):
    """Another learning rate is what such a page is for; the made-up drift is the same."""
    line = drift_line(finished, other(train__learning_rate=0.5))
    assert line.unranked == ()
    assert [cell.delta for cell in line.arms] == ["", "Δ 0", "", "Δ 0"]
    assert [one.difference.count for one in line.comparisons] == [3, 3]


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("sampling__steps", 9, "sampling.steps = 50 in A, 9 in B"),
        ("evaluation__num_samples", 8, "evaluation.num_samples = 1000 in A, 8 in B"),
        ("data__resolution", 32, "data.resolution = 64 in A, 32 in B"),
    ],
)
def test_measured_differently_is_not_compared(finished, other, tmp_path, path, value, said):
    folder = other(**{path: value})
    line = drift_line(finished, folder)
    assert line.comparisons == ()
    assert not any(cell.delta for cell in line.arms)
    assert all(cell.text for cell in line.arms)  # the numbers themselves are shown
    assert all(said in reason for reason in line.unranked) and len(line.unranked) == 2
    found = words(finished, folder, tmp_path)
    assert "Not compared, because the measurements differ" in found and said in found
    assert "measured differently" in found


def test_a_measures_own_protocol_counts(finished, finished_once):
    """The features that a number was taken with are no setting of the recipe."""
    path = finished / "results.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    for line in lines:
        if line["kind"] == "measure" and line["metric"] == "drift":
            line["protocol"]["measure.features_fingerprint"] = "another"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = {
        line.metric.name: line.unranked
        for line in compared_lines(open_pair(finished_once, finished))
    }
    assert all("measure.features_fingerprint = absent in A" in one for one in found["drift"])
    assert found["effect"] == ()


def test_runs_are_compared_whatever_their_seeds(finished, tmp_path):
    first, second = run_of(finished), run_of(finished, "disentangled", 1)
    line = drift_line(first, second)
    assert line.unranked == () and line.arms[1].delta == "Δ 0"
    found = words(first, second, tmp_path)
    assert "One training run each" in found and "seed" in found
    assert "conditioning.rules.label" in found


@pytest.mark.parametrize(
    ("value", "remark"), [(0.065, "sample intervals overlap"), (0.09, "sample intervals apart")]
)
def test_one_run_each_is_no_verdict(finished, value, remark):
    """0.05 [0.04, 0.06] against an interval of the same length around another value."""
    first, second = run_of(finished), run_of(finished, "disentangled")
    path = second / "results.jsonl"
    moved = {"value": value, "low": value - 0.01, "high": value + 0.01}
    path.write_text(json.dumps(json.loads(path.read_text()) | moved) + "\n")
    cell = drift_line(first, second).arms[1]
    assert cell.delta.endswith(remark) and cell.tone == "mute"


@pytest.mark.parametrize(("shift", "words"), [(0.0, "within"), (0.05, "beyond")])
def test_several_seeds_are_no_verdict_either(finished, finished_once, shift, words):
    """Drift of B moved by so much, and by a little that differs from seed to seed."""
    path = finished / "results.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    for line in lines:
        if line["kind"] == "measure" and line["metric"] == "drift":
            line["value"] += shift + 0.001 * (line["seed"] - 1)
            line.pop("content_sha256")
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    cell = drift_line(finished_once, finished).arms[1]
    assert cell.delta.endswith(f": {words} its interval") and cell.tone == "mute"


def test_samples_stand_at_equal_seeds_and_classes(finished, finished_once):
    """The manifest of B begins elsewhere: only what both drew is shown, in pairs."""
    path = finished / "runs/entangled-seed0/evaluation/samples/manifest.json"
    images = json.loads(path.read_text())["images"]
    images[0]["class"] = "elephants"
    path.write_text(json.dumps({"images": images[:3]}))
    first, _ = boards(open_pair(finished_once, finished), ImageEmbedder())
    assert [tile.caption for tile in first.tiles] == ["dogs, seed 1", "flags, seed 2"]
    for tile in first.tiles:
        assert tile.first.image.uri == tile.second.image.uri
        assert "A: entangled" in tile.first.alt and tile.caption in tile.first.alt


def test_tiles_come_from_the_runs_folder_only(finished, finished_once):
    samples = finished / "runs/entangled-seed0/evaluation/samples"
    images = json.loads((samples / "manifest.json").read_text())["images"]
    images[0]["file"] = "../drift/original_size.png"
    images[1]["file"] = str(finished / "study.json")
    (samples / "seed-2.png").unlink()
    (samples / "seed-2.png").symlink_to(samples / "grid.png")
    (samples / "manifest.json").write_text(json.dumps({"images": images}))
    first, _ = boards(open_pair(finished_once, finished), ImageEmbedder())
    reasons = [tile.second.missing for tile in first.tiles]
    assert reasons == [*["not a file of the run"] * 3, ""]


def test_arms_of_one_side_are_named(finished, finished_once, tmp_path):
    path = finished / "study.json"
    declared = json.loads(path.read_text())
    for part in ("arms", "combinations"):
        declared[part]["third"] = declared[part].pop("disentangled")
    write_edited(path, declared)
    both = open_pair(finished_once, finished)
    assert both.unpaired == ("disentangled", "third")
    assert "which are skipped: disentangled, third" in words(finished_once, finished, tmp_path)


def test_settings_without_effect_are_no_difference(finished, other, tmp_path):
    found = words(finished, other(train__log_every=7), tmp_path)
    assert "A and B differ in no setting" in found
    assert "without effect on any number: train.log_every" in found


def test_hostile_names_are_escaped(finished, tmp_path):
    hostile = "<script>alert('x')</script><img src=http://evil.example/x.png>"
    runs = [run_of(finished, seed=seed) for seed in (0, 1)]
    for run in runs:
        path = run / "evaluation/samples/manifest.json"
        images = [row | {"class": hostile} for row in json.loads(path.read_text())["images"]]
        path.write_text(json.dumps({"images": images}))
    page = Page(render_comparison(*runs, tmp_path / hostile.replace("/", "")).read_text("utf-8"))
    assert "script" not in page.tags
    assert not any("evil" in one for one in page.addresses)
    assert sum(text.count("alert('x')") for text in page.text) >= 4


def test_what_cannot_be_compared_is_refused(finished, finished_once, tmp_path):
    run = run_of(finished)
    with pytest.raises(ConfigError, match=r"is a study and .* a run: compare two studies or two"):
        open_pair(finished, run)
    with pytest.raises(ConfigError, match="both folders are"):
        open_pair(finished, finished / "runs" / "..")
    with pytest.raises(ConfigError, match=r"neither study\.json nor"):
        open_pair(finished, tmp_path)
    path = finished / "study.json"
    declared = json.loads(path.read_text())
    for part in ("arms", "combinations"):
        declared[part] = {f"new-{arm}": value for arm, value in declared[part].items()}
    write_edited(path, declared)
    with pytest.raises(ConfigError, match="no arm has the same name in both"):
        open_pair(finished_once, finished)


def test_the_page_is_named_after_both(finished, finished_once, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    path = render_comparison(finished, finished_once)
    assert path.name == f"{finished.name}-beside-{finished_once.name}.html"
    assert (tmp_path / path.name).is_file()
