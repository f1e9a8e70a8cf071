# SPDX-License-Identifier: Apache-2.0
"""Evaluating a run leaves the user's samples alone, goes on after a stop and keeps old numbers."""

import errno
import importlib
import json
import shutil
import sys
from dataclasses import replace
from importlib import import_module

import pytest

from pippin import plugins
from pippin.evaluation.measure import Measure
from pippin.evaluation.runs import evaluate as module
from pippin.evaluation.runs.evaluate import (
    evaluate_run,
    real_floor,
    run_protocol,
)
from pippin.evaluation.runs.protocol import Stages
from pippin.evaluation.runs.recording import with_fingerprints, write_results
from pippin.sampling.load import load_run
from pippin.sampling.sample import draw_into
from pippin.sampling.sample_folder import read_manifest
from pippin.system.lock import FolderBusyError, folder_lock


@pytest.fixture
def folder(finished_run, tmp_path):
    return shutil.copytree(finished_run, tmp_path / "run")


def facts(measures):
    return [(m.name, m.subject, m.value, m.low, m.protocol) for m in measures]


def test_an_evaluation_goes_on_after_a_stop_and_spares_the_users_samples(folder, monkeypatch):
    run = load_run(folder)
    draw_into(run, [0, 1], [70, 71], run.recipe.sampling, folder / "samples")
    mine = {p.name: p.read_bytes() for p in (folder / "samples").glob("*.*")}
    calls = []

    def counted(stage):
        real = getattr(module, stage)

        def call(*args):
            calls.append(stage)
            if calls.count("drift_measures") == 1 and stage == "drift_measures":
                raise KeyboardInterrupt
            return real(*args)

        monkeypatch.setattr(module, stage, call)

    for stage in ("_quality", "drift_measures", "real_floor"):
        counted(stage)
    with pytest.raises(KeyboardInterrupt):
        evaluate_run(run, folder)
    assert calls == ["_quality", "drift_measures"]
    resumed = evaluate_run(run, folder)
    assert calls[2:] == ["drift_measures", "real_floor", "_quality"]  # the last: untrained
    fresh = evaluate_run(run, folder)
    assert facts(resumed) == facts(fresh)
    manifest = read_manifest(folder / "evaluation" / "samples")
    assert [row["seed"] for row in manifest.images] == list(range(12))
    assert not (folder / "evaluation" / "untrained").exists()
    assert not (folder / "evaluation" / "stages.jsonl").exists()
    assert {p.name: p.read_bytes() for p in (folder / "samples").glob("*.*")} == mine


def test_results_that_find_no_room_cost_no_part_of_the_evaluation(folder, monkeypatch):
    run = load_run(folder)

    def no_room(lines, path):
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    with monkeypatch.context() as full:
        full.setattr(module, "write_results", no_room)
        with pytest.raises(OSError, match=r"No space left on device: .*results\.jsonl"):
            evaluate_run(run, folder)
    assert not (folder / "results.jsonl").exists()
    monkeypatch.setattr(module, "_quality", None)  # to call it would be an error
    measures = evaluate_run(run, folder)
    lines = [json.loads(text) for text in (folder / "results.jsonl").read_text().splitlines()]
    assert len(lines) == len(measures)
    assert not (folder / "evaluation" / "stages.jsonl").exists()


def test_samples_of_an_earlier_protocol_make_room_for_the_evaluations_own(folder):
    run = load_run(folder)
    place = folder / "evaluation" / "samples"
    draw_into(run, [0, 1], [70, 71], replace(run.recipe.sampling, steps=2), place)
    evaluate_run(run, folder)
    assert read_manifest(place).protocol["sampling.steps"] == 3
    assert len(list(place.glob("seed-*.png"))) == 12


METRIC = """
from pippin import ImageMetric, declare_metric

declare_metric(
    ImageMetric(
        name="edited",
        description="A number of this file.",
        better="neither",
        values=lambda images: images[:, 0, 0, 0].double() * 0 + NUMBER,
    )
)
"""


def test_an_edited_metric_is_measured_again_after_a_stop(folder, tmp_path, monkeypatch):
    run = load_run(folder)
    evaluation = replace(run.recipe.evaluation, parts=("real",))
    run = replace(run, recipe=replace(run.recipe, evaluation=evaluation))
    source = tmp_path / "tests_edited_metric.py"
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(plugins, "_registering", {})
    monkeypatch.setattr(sys, "dont_write_bytecode", True)  # of one second and size it would be old

    def evaluated(number):
        """Value of the metric, and whether the part was measured, of an evaluation that stops
        before it writes results."""
        source.write_text(METRIC.replace("NUMBER", str(number)))
        monkeypatch.delitem(sys.modules, source.stem, raising=False)
        importlib.invalidate_caches()
        import_module(source.stem)
        parts, lines = [], []

        def measured(*args):
            parts.append("real")
            return real_floor(*args)

        def stop(found, path):
            lines.extend(found)
            raise KeyboardInterrupt

        monkeypatch.setattr(module, "real_floor", measured)
        monkeypatch.setattr(module, "write_results", stop)
        with pytest.raises(KeyboardInterrupt):
            evaluate_run(run, folder)
        (value,) = (line["value"] for line in lines if line["name"] == "edited")
        return value, parts == ["real"]

    assert evaluated(10) == (10, True)
    assert evaluated(10) == (10, False)
    assert evaluated(11) == (11, True)


def test_two_evaluations_of_one_run_are_refused(folder):
    with folder_lock(folder / "evaluation"), pytest.raises(FolderBusyError):
        evaluate_run(load_run(folder), folder)


def measure(value, **protocol):
    values = {"low": None, "high": None, "interval_over": "none", "n": 1, "unit": ""}
    return Measure(name="x", value=value, better="lower", protocol=protocol, **values)


def test_finished_parts_are_of_one_protocol_and_keep_what_is_not_finite(tmp_path):
    path = tmp_path / "stages.jsonl"
    made = Stages(path, {"a": 1}).measure("one", lambda: [measure(float("inf"), k=[1])])
    assert made[0].value == float("inf")
    again = Stages(path, {"a": 1}).measure("one", list)
    assert again[0].to_dict() == made[0].to_dict()
    assert Stages(path, {"a": 2}).measure("one", list) == []


def test_results_of_another_protocol_stay(tmp_path):
    path = tmp_path / "results.jsonl"
    for value, steps in ((1.0, 3), (2.0, 4), (3.0, 3)):
        write_results(with_fingerprints([measure(value, steps=steps)], {}), path)
    lines = [json.loads(text) for text in path.read_text().splitlines()]
    assert [(x["value"], x["protocol"]["measure.steps"]) for x in lines] == [(2.0, 4), (3.0, 3)]


def test_a_line_that_cannot_be_read_is_set_aside(tmp_path):
    path = tmp_path / "results.jsonl"
    path.write_text('{"name": "y", "subject": "arm", "fingerprint": "f"}\n{"torn')
    write_results(with_fingerprints([measure(1.0)], {}), path)
    assert [json.loads(text)["name"] for text in path.read_text().splitlines()] == ["y", "x"]
    assert '{"torn' in (tmp_path / "results.jsonl.torn").read_text()


def test_the_protocol_says_which_weights_were_measured(folder):
    raw, averaged = load_run(folder, "raw"), load_run(folder)
    assert run_protocol(raw) != run_protocol(averaged)
    assert run_protocol(raw)["model.images_seen"] == 64
