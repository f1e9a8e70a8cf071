# SPDX-License-Identifier: Apache-2.0
"""Which checkpoints stay on disk, while others read them and whenever the process is killed."""

import json
import re
import shutil
from pathlib import Path

import pytest
import torch

from pippin.cli.main import main
from pippin.config import ConfigError
from pippin.runs import checkpoint_folders
from pippin.runs.checkpoint import (
    Checkpoint,
    CheckpointError,
    newest_intact_checkpoint,
    save_checkpoint,
)
from pippin.runs.checkpoint_folders import list_checkpoints
from pippin.runs.storage.held_checkpoint import held_checkpoint
from pippin.runs.storage.retention import Retention
from pippin.system.lock import share_directory
from pippin.training.config import TrainConfig


def make(images):
    tensor = torch.full((8,), float(images))
    state = {"images_seen": images, "step": images}
    return Checkpoint(model={"w": tensor}, ema={"w": tensor}, optimizer={}, state=state)


def there(folder):
    return sorted(int(path.name) for path in list_checkpoints(folder))


def write_log(path, values):
    lines = [json.dumps({"images": n, "held_out_loss": v}) for n, v in values.items()]
    path.write_text("".join(f"{line}\n" for line in lines))


@pytest.mark.parametrize(
    ("rule", "kept"),
    [
        (Retention(newest=2), {90, 100}),
        (Retention(newest=1, every=30), {30, 60, 90, 100}),
        (Retention(newest=1, every=25), {30, 50, 80, 100}),  # at or past 25, 50, 75, 100
        (Retention(newest=20), set(range(10, 101, 10))),
    ],
)
def test_a_rule_keeps_the_newest_and_one_per_interval(rule, kept):
    assert rule.kept(range(10, 101, 10)) == kept


@pytest.mark.parametrize("rule", [Retention(newest=1, every=25), Retention(newest=3, every=40)])
def test_pruning_after_every_save_keeps_what_the_rule_keeps_of_all(tmp_path, rule):
    for images in range(10, 101, 10):
        save_checkpoint(tmp_path, make(images), keep=rule)
    assert there(tmp_path) == sorted(rule.kept(range(10, 101, 10)))


def test_the_best_measured_checkpoint_stays(tmp_path):
    log, folder = tmp_path / "log.jsonl", tmp_path / "checkpoints"
    rule = Retention(newest=1, best="held_out_loss", log=log)
    losses = {10: 0.5, 20: None, 30: 0.3, 40: 0.3, 50: 0.4}
    after = {}
    for images in losses:  # the value of a step is logged after its checkpoint
        save_checkpoint(folder, make(images), keep=rule)
        after[images] = there(folder)
        write_log(log, {n: v for n, v in losses.items() if n <= images})
    assert after == {10: [10], 20: [10, 20], 30: [10, 30], 40: [30, 40], 50: [30, 50]}


def test_a_checkpoint_in_use_stays_until_a_later_save(tmp_path):
    save_checkpoint(tmp_path, make(10), keep=1)
    with share_directory(tmp_path / "10"):
        save_checkpoint(tmp_path, make(20), keep=1)
        assert there(tmp_path) == [10, 20]
    save_checkpoint(tmp_path, make(30), keep=1)
    assert there(tmp_path) == [30]


def test_a_held_checkpoint_stays_and_another_is_named(tmp_path):
    for images in (10, 20):
        save_checkpoint(tmp_path, make(images), keep=2)
    with held_checkpoint(tmp_path, 10) as (path, problems):
        save_checkpoint(tmp_path, make(30), keep=1)
        assert (path.name, problems, there(tmp_path)) == ("10", [], [10, 30])
    with held_checkpoint(tmp_path) as (path, problems):
        assert (path.name, problems) == ("30", [])
    with (
        pytest.raises(CheckpointError, match="no checkpoint at 20 images; there are: 10, 30"),
        held_checkpoint(tmp_path, 20),
    ):
        pass


def test_a_checkpoint_that_vanishes_before_it_is_held_is_passed(tmp_path, monkeypatch):
    for images in (10, 20):
        save_checkpoint(tmp_path, make(images), keep=2)
    listed = list_checkpoints(tmp_path)
    monkeypatch.setattr(
        "pippin.runs.storage.held_checkpoint.list_checkpoints", lambda folder: listed
    )
    shutil.rmtree(tmp_path / "20")
    with held_checkpoint(tmp_path) as (path, problems):
        assert (path.name, problems) == ("10", [])
    with (
        pytest.raises(CheckpointError, match="20 was just removed by training; choose a newer"),
        held_checkpoint(tmp_path, 20),
    ):
        pass


@pytest.mark.parametrize("removals", range(5))
def test_a_kill_while_pruning_leaves_the_newest_and_the_next_save_finishes(
    tmp_path, monkeypatch, removals
):
    """The process ends before each removal of a file in turn."""

    class KilledError(BaseException):
        pass

    for images in (10, 20):
        save_checkpoint(tmp_path, make(images), keep=2)
    real, count = Path.unlink, [0]

    def unlink(path, missing_ok=False):
        if path.parent.name in ("10", "20"):
            if count[0] == removals:
                raise KilledError
            count[0] += 1
        real(path, missing_ok=missing_ok)

    with monkeypatch.context() as patch, pytest.raises(KilledError):
        patch.setattr(checkpoint_folders.Path, "unlink", unlink)
        save_checkpoint(tmp_path, make(30), keep=1)
    assert newest_intact_checkpoint(tmp_path)[0].name == "30"
    save_checkpoint(tmp_path, make(40), keep=1)
    assert there(tmp_path) == [40]
    assert newest_intact_checkpoint(tmp_path) == (tmp_path / "40", [])


def test_a_best_checkpoint_needs_a_measure_at_every_checkpoint():
    fitting = {"checkpoint_every": 10, "validate_every": 20, "keep_best": "held_out_loss"}
    config = TrainConfig(images=100, keep_every=30, **fitting)
    assert config.max_checkpoints == 2 + 3 + 1
    for interval in (0, 15):
        message = rf"multiple of .*, 10, .*; got {interval}: set --train\.validate-every 10"
        with pytest.raises(ConfigError, match=message):
            TrainConfig(images=100, **fitting | {"validate_every": interval})


def test_a_checkpoint_is_evaluated_and_sampled_by_its_images(finished_run, tmp_path, capsys):
    run = tmp_path / "run"
    shutil.copytree(finished_run, run)
    assert main(["evaluate", str(run), "--checkpoint", "all", "--parts", "held-out"]) == 0
    shown = capsys.readouterr().out
    assert shown.index("checkpoint at 32 images") < shown.index("checkpoint at 64 images")
    values = {}
    for images in (32, 64):
        lines = (run / f"evaluation/checkpoint-{images}/results.jsonl").read_text().splitlines()
        rows = [json.loads(line) for line in lines]
        (loss,) = (row for row in rows if row["name"] == "held-out loss")
        assert loss["protocol"]["model.images_seen"] == images
        values[images] = loss["value"]
    logged = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    losses = {x["images"]: x["held_out_loss"] for x in logged if "held_out_loss" in x}
    assert values == pytest.approx(losses, rel=1e-6)
    given = ["--seeds", "0:1", "--steps", "1", "--out", str(tmp_path / "out")]
    assert main(["sample", str(run), "--checkpoint", "32", *given]) == 0
    assert "at 32 images" in capsys.readouterr().out
    assert main(["sample", str(run), "--checkpoint", "33", *given]) == 2
    assert "no checkpoint at 33 images; there are: 32, 64" in capsys.readouterr().err
    assert main(["evaluate", str(run), "--checkpoint", "last"]) == 2
    assert "--checkpoint must be the images seen" in capsys.readouterr().err
    (run / "checkpoints" / "32" / "ema.safetensors").write_bytes(b"")  # damaged
    assert main(["evaluate", str(run), "--checkpoint", "all", "--parts", "held-out"]) == 0
    shown = capsys.readouterr()
    assert "checkpoint at 64 images" in shown.out and "checkpoint at 32" not in shown.out
    assert re.search(r"skipped: .*32/ema.safetensors: damaged", shown.err)
    assert main(["evaluate", str(run), "--checkpoint", "32", "--parts", "held-out"]) == 2
