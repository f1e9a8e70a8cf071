# SPDX-License-Identifier: Apache-2.0
"""A study can be stopped and continued, and no run costs another."""

import json
import multiprocessing
import re
from dataclasses import replace

import pytest
from rich.console import Console

from pippin.config import ConfigError, replace_at
from pippin.encoders.config import AutoencoderConfig
from pippin.studies.declaration import Declaration
from pippin.studies.execution import result_row
from pippin.studies.results import read
from pippin.studies.runner import _RunCount, run_study
from pippin.studies.study import Axis, Study
from pippin.studies.study_folder import run_name
from pippin.system.lock import folder_lock
from pippin.system.progress import Progress
from pippin.system.signals import TrainingDivergedError, TrainingStoppedError
from pippin.system.text import print_above_progress
from pippin.training.config import InitConfig, TrainConfig


def quiet(text: str) -> None:
    pass


def counted(execute, calls, fail=None, error=None):
    def run(recipe, folder):
        calls.append(folder.name)
        if folder.name == fail:
            raise error or RuntimeError("disk on fire")
        return execute(recipe, folder)

    return run


def test_pairs_complete_together(study, execute, tmp_path):
    calls = []
    run_study(study, tmp_path, counted(execute, calls), quiet)
    expected = [run_name(arm, seed) for seed in (0, 1, 2) for arm in study.arms()]
    assert calls == expected
    rows = read(tmp_path / "results.jsonl").rows
    assert {row.seed for row in rows} == {0, 1, 2}
    assert all(row.protocol["train.images"] == 10_000 for row in rows)


def test_failure_does_not_cost_the_rest_nor_rerun_what_is_done(study, execute, tmp_path):
    calls = []
    summary = run_study(study, tmp_path, counted(execute, calls, "disentangled-seed1"), quiet)
    assert len(calls) == 6
    assert summary.statuses["disentangled-seed1"] == "failed"
    outcome = read(tmp_path / "results.jsonl").latest("disentangled", 1)
    assert outcome.message == "RuntimeError: disk on fire"
    assert "disk on fire" in (tmp_path / "runs/disentangled-seed1/failure.txt").read_text()

    calls.clear()
    summary = run_study(study, tmp_path, counted(execute, calls), quiet)
    assert calls == ["disentangled-seed1"]
    assert sorted(summary.statuses.values()) == ["finished"] + ["skipped"] * 5


def test_lines_of_a_run_begin_with_its_name(study, execute, tmp_path, capsys):
    def talk(recipe, folder):
        console = Console(stderr=True)
        with Progress(console, "training", total=20) as progress:
            progress.update(20)
        print_above_progress(console, "2 prompts", label="truncated captions:")
        return execute(recipe, folder)

    said = []
    run_study(replace(study, seeds=(0,)), tmp_path, talk, said.append)
    lines = capsys.readouterr().err.splitlines()
    for arm, own in zip(study.arms(), (lines[:2], lines[2:]), strict=True):
        assert re.fullmatch(rf"\[{arm}-seed0\] \S+ \S+ training: 20 of 20 images .*", own[0])
        assert own[1:] == [f"[{arm}-seed0] truncated captions: 2 prompts"]
    assert [line for line in said if line.startswith("study: ")][1].startswith(
        "study: 2 of 2 runs (100.0 %), "
    )


def test_the_time_of_a_study_that_is_left_counts_the_runs_of_this_call():
    now = [0.0]
    counted_runs = _RunCount(done=4, total=8, clock=lambda: now[0])
    texts = []
    for _ in range(4):
        now[0] += 90
        texts.append(counted_runs.one_more())
    assert texts[0] == "study: 5 of 8 runs (62.5 %), 90.0 s/run, ETA 0:04:30"
    assert texts[-1] == "study: 8 of 8 runs (100.0 %), 90.0 s/run, in 0:06:00"


def test_divergence_is_a_result(study, execute, tmp_path):
    calls = []
    error = TrainingDivergedError("10 bad steps")
    run_study(study, tmp_path, counted(execute, calls, "entangled-seed0", error), quiet)
    assert read(tmp_path / "results.jsonl").latest("entangled", 0).status == "diverged"
    calls.clear()
    run_study(study, tmp_path, counted(execute, calls), quiet)
    assert calls == []


def _stopped(tmp_path):
    return TrainingStoppedError(15, tmp_path / "checkpoint")


@pytest.mark.parametrize("kind", ["ctrl-c", "signal"])
def test_a_stop_is_clean(study, execute, tmp_path, kind):
    error = KeyboardInterrupt() if kind == "ctrl-c" else _stopped(tmp_path)
    said = []
    execution = counted(execute, [], "entangled-seed1", error)
    summary = run_study(study, tmp_path, execution, said.append)
    assert summary.interrupted
    assert said[-1] == "stopped; finished runs are kept"
    assert read(tmp_path / "results.jsonl").latest("entangled", 1) is None
    assert not run_study(study, tmp_path, execute, quiet).interrupted


def test_a_torn_record_runs_the_torn_run_again(study, execute, tmp_path):
    run_study(study, tmp_path, execute, quiet)
    path = tmp_path / "results.jsonl"
    path.write_bytes(path.read_bytes()[:-40])
    calls, said = [], []
    run_study(study, tmp_path, counted(execute, calls), said.append)
    assert calls == ["disentangled-seed2"]
    assert any("moved to results.jsonl.torn" in text for text in said)
    assert len(read(path).rows) == 6 * 4


def test_seeds_can_be_added_and_that_is_recorded(study, execute, tmp_path):
    run_study(study, tmp_path, execute, quiet)
    calls = []
    run_study(replace(study, seeds=(7,)), tmp_path, counted(execute, calls), quiet)
    assert calls == ["entangled-seed7", "disentangled-seed7"]
    declared = Declaration.load(tmp_path / "study.json")
    assert (declared.seeds, declared.first_seeds) == ((0, 1, 2, 7), (0, 1, 2))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"smallest_effect": 0.001}, "smallest_effect = 0.005, this study 0.001"),
        ({"primary": "kid"}, "cannot be changed"),
    ],
)
def test_what_was_declared_stands(study, execute, tmp_path, change, message):
    run_study(study, tmp_path, execute, quiet)
    with pytest.raises(ConfigError, match=message):
        run_study(replace(study, **change), tmp_path, execute, quiet)


def test_another_setting_needs_another_folder(study, execute, tmp_path):
    run_study(study, tmp_path, execute, quiet)
    longer = replace(study, base=replace_at(study.base, "train.images", 20_000))
    with pytest.raises(ConfigError, match=r"train\.images: 10000 there, 20000 here"):
        run_study(longer, tmp_path, execute, quiet)
    elsewhere = replace(study, base=replace_at(study.base, "train.device", "cuda"))
    run_study(elsewhere, tmp_path, execute, quiet)


def test_the_declaration_keeps_the_machine_settings_of_the_finished_runs(study, execute, tmp_path):
    def fail(recipe, folder):
        raise ValueError("no memory")

    def on(device):
        base = replace_at(study.base, "train.device", device)
        return replace(study, base=base, reproduce=(f"pippin study run demo --device {device}",))

    def declared():
        read_back = Declaration.load(tmp_path / "study.json")
        devices = {arm["train"]["device"] for arm in read_back.arms.values()}
        return devices, read_back.reproduce[-1].split()[-1]

    run_study(on("cuda"), tmp_path, fail, quiet)
    run_study(on("cpu"), tmp_path, execute, quiet)
    assert declared() == ({"cpu"}, "cpu")  # nothing had been trained on the other device
    run_study(on("auto"), tmp_path, execute, quiet)
    assert declared() == ({"cpu"}, "cpu")
    run_study(replace(on("auto"), seeds=(7,)), tmp_path, execute, quiet)
    assert declared() == ({"cpu"}, "cpu")
    assert 7 in Declaration.load(tmp_path / "study.json").seeds


def test_a_folder_of_failures_alone_may_be_declared_anew(study, execute, tmp_path):
    def fail(recipe, folder):
        raise ValueError("nowhere is not there")

    run_study(study, tmp_path, fail, quiet)
    longer = replace(study, base=replace_at(study.base, "train.images", 20_000), seeds=(1, 2))
    begun = tmp_path / "runs" / "entangled-seed0" / "checkpoints" / "500"
    begun.mkdir(parents=True)
    with pytest.raises(ConfigError, match="use another folder"):
        run_study(longer, tmp_path, execute, quiet)  # hours of training stand there
    begun.rmdir()
    summary = run_study(longer, tmp_path, execute, quiet)
    assert set(summary.statuses.values()) == {"finished"}
    declared = Declaration.load(tmp_path / "study.json")
    assert declared.first_seeds == declared.seeds == (1, 2)
    assert {one.status for one in read(tmp_path / "results.jsonl").outcomes} == {"finished"}
    with pytest.raises(ConfigError, match="use another folder"):
        run_study(study, tmp_path, execute, quiet)


def _hold(folder, ready, done):
    with folder_lock(folder):
        ready.set()
        done.wait(20)


def test_two_processes_in_one_folder_are_refused(study, execute, tmp_path):
    context = multiprocessing.get_context("fork")
    ready, done = context.Event(), context.Event()
    holder = context.Process(target=_hold, args=(tmp_path, ready, done))
    holder.start()
    try:
        assert ready.wait(20)
        with pytest.raises(ValueError, match="in use by another"):
            run_study(study, tmp_path, execute, quiet)
    finally:
        done.set()
        holder.join()


def test_rows_are_comparable_over_axes_and_seeds_only(study, measure):
    arms = study.arms()
    one = result_row(study, "entangled", arms["entangled"], measure("kid", 0.5))
    other = result_row(
        study,
        "disentangled",
        replace(arms["disentangled"], seed=3),
        measure("kid", 0.4, protocol={"model": {"recipe": "its own fingerprint"}}),
    )
    assert one.comparable == other.comparable
    assert one.fingerprint != other.fingerprint
    for path, value in (("train.images", 5), ("evaluation.seed", 1), ("sampling.steps", 9)):
        changed = replace_at(arms["entangled"], path, value)
        row = result_row(study, "entangled", changed, measure("kid", 0.5))
        assert row.comparable != one.comparable, path
    for entry in ({"model": {"images_seen": 7}}, {"sampling.evaluations_per_image": 9}):
        row = result_row(
            study, "entangled", arms["entangled"], measure("kid", 0.5, protocol=entry)
        )
        assert row.comparable != one.comparable, entry
    reference = measure("kid", 0.5, protocol={"reference": "abc"})
    assert (
        result_row(study, "entangled", arms["entangled"], reference).comparable != one.comparable
    )


def test_weights_that_an_axis_chooses_do_not_part_its_arms(study, measure):
    def row(study, arm, weights):
        """As samples tell of it."""
        sampled = measure("kid", 0.5, protocol={"model.weights": weights})
        return result_row(study, arm, study.arms()[arm], sampled)

    levels = {name: {"sampling.weights": name} for name in ("ema", "raw")}
    chosen = replace(study, axes={"weights": Axis(levels=levels)}, combinations=None)
    assert row(chosen, "ema", "ema").comparable == row(chosen, "raw", "raw").comparable
    one, other = (row(study, "entangled", weights) for weights in levels)
    assert one.comparable != other.comparable


def test_measured_numbers_of_an_autoencoder_follow_from_the_data(study, measure):
    """An axis of data does not part its arms, and no other axis may change these numbers."""
    levels = {name: {"data.tones": name} for name in ("base-only", "all")}
    tones = replace(study, axes={"tones": Axis(levels=levels)}, combinations=None)
    base = replace(study.base, autoencoder=AutoencoderConfig(normalisation="measured"))

    def comparable(one, normalised):
        found = []
        for arm, autoencoder in zip(list(one.arms())[:2], ("a", "b"), strict=True):
            recipe = replace(one.arms()[arm], autoencoder=normalised.autoencoder)
            value = measure("kid", 0.5, protocol={"autoencoder": autoencoder})
            found.append(result_row(one, arm, recipe, value).comparable)
        return found[0] == found[1]

    assert comparable(tones, base)
    assert not comparable(tones, study.base)  # whose numbers are the autoencoder's own
    assert not comparable(study, base)


def test_a_value_that_is_not_finite_is_null(study, measure, tmp_path):
    def diverging(recipe, folder):
        return [measure("kid", float("inf"))]

    run_study(replace(study, seeds=(0,)), tmp_path, diverging, quiet)
    line = json.loads((tmp_path / "results.jsonl").read_text().split("\n")[1])  # after settings
    assert line["value"] is None and line["low"] is None and line["diverged"] is True


def test_what_follows_from_a_declared_setting_may_differ(study, measure, base):
    """A study of the length of training: images seen are part of each number's protocol."""
    longer = replace_at(base, "train.images", 20_000)
    of_length = Study.from_recipes(
        {"short": base, "long": longer},
        axes={"length": ("train.images",)},
        name="length",
        title="",
        question="",
        primary="kid",
    )
    rows = [
        result_row(
            of_length, arm, recipe, measure("kid", 1.0, protocol={"model.images_seen": seen})
        )
        for (arm, recipe), seen in zip(of_length.arms().items(), (10_000, 20_000), strict=True)
    ]
    assert rows[0].comparable == rows[1].comparable


# -- starts ----------------------------------------------------------------------------------


def with_start(base):
    low = replace(base, train=TrainConfig(images=500))
    start = {"init.run": "@low"}, {"init.run": None}
    return Study(
        name="pretraining",
        title="",
        question="",
        base=base,
        axes={"start": Axis(levels={"low": start[0], "scratch": start[1]})},
        starts={"low": low},
        seeds=(0, 1),
        primary="drift",
    )


def test_a_start_is_trained_for_every_seed_and_no_path_is_recorded(base, execute, tmp_path):
    trained, executed = [], []

    def pretrain(recipe, folder):
        if folder.name not in trained:
            trained.append(folder.name)
        assert recipe.train.images == 500 and folder.name == f"low-seed{recipe.seed}"

    def run(recipe, folder):
        executed.append((folder.name, recipe.init.run))
        return execute(recipe, folder)

    study = with_start(base)
    run_study(study, tmp_path, run, print, pretrain)
    assert trained == ["low-seed0", "low-seed1"]
    assert dict(executed) == {
        "low-seed0": "@low",
        "scratch-seed0": None,
        "low-seed1": "@low",
        "scratch-seed1": None,
    }
    rows = read(tmp_path / "results.jsonl").rows
    assert {row.protocol["init.run"] for row in rows if row.arm == "low"} == {"@low"}
    executed.clear()
    assert set(run_study(study, tmp_path, run, print, pretrain).statuses.values()) == {"skipped"}
    assert executed == []


def test_a_start_that_fails_is_the_failure_of_the_arms_that_need_it(base, execute, tmp_path):
    def pretrain(recipe, folder):
        raise ValueError("no such data")

    summary = run_study(with_start(base), tmp_path, execute, print, pretrain)
    assert summary.statuses["low-seed0"] == "failed"
    assert summary.statuses["scratch-seed0"] == "finished"


def test_starts_are_named_and_used(base, execute, tmp_path):
    study = with_start(base)
    with pytest.raises(ConfigError, match=r"has starts .*: give pretrain"):
        run_study(study, tmp_path, execute, print)
    with pytest.raises(ConfigError, match=r"'low' starts from @low, but .* none"):
        replace(study, starts={}).check()
    more = study.starts | {"idle": study.starts["low"]}
    with pytest.raises(ConfigError, match="no arm starts from idle"):
        replace(study, starts=more).check()
    chained = replace(study.starts["low"], init=InitConfig(run="@first"))
    replace(study, starts={"first": base, "low": chained}).check()


def test_another_start_needs_another_folder(base, execute, tmp_path):
    study = with_start(base)
    run_study(study, tmp_path, execute, print, lambda recipe, folder: None)
    longer = replace(study.starts["low"], train=TrainConfig(images=900))
    with pytest.raises(ConfigError, match="use another folder"):
        run_study(replace(study, starts={"low": longer}), tmp_path, execute, print, print)
