# SPDX-License-Identifier: Apache-2.0
"""Checkpoints: complete or absent, verified, and the previous intact one is found."""

import os
from dataclasses import replace

import pytest
import torch

from pippin.runs import checkpoint
from pippin.runs.checkpoint import (
    Checkpoint,
    CheckpointError,
    load_checkpoint,
    load_weights,
    newest_intact_checkpoint,
    save_checkpoint,
)
from pippin.runs.checkpoint_folders import list_aside, list_checkpoints, remove_checkpoint


def make(images):
    tensor = torch.full((64,), float(images))
    return Checkpoint(
        model={"w": tensor},
        ema={"w": tensor + 1},
        optimizer={"exp_avg/w": tensor + 2},
        state={"images_seen": images, "step": images // 8},
    )


def test_round_trip(tmp_path):
    path = save_checkpoint(tmp_path, make(800), keep=2)
    assert path.name == "800"
    loaded = load_checkpoint(path)
    assert torch.equal(loaded.model["w"], make(800).model["w"])
    assert torch.equal(loaded.optimizer["exp_avg/w"], make(800).optimizer["exp_avg/w"])
    assert loaded.state["step"] == 100
    assert torch.equal(load_weights(path, "ema")["w"], make(800).ema["w"])


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def flip_a_bit(path):
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("name", "spoil", "message"),
    [
        ("model.safetensors", lambda p: p.write_bytes(p.read_bytes()[:-10]), "damaged"),
        ("optimizer.safetensors", flip_a_bit, "damaged"),
        ("ema.safetensors", lambda p: p.unlink(), "missing"),
        ("state.json", lambda p: p.write_text("{"), "not readable"),
        ("state.json", lambda p: p.write_text("{}"), "not a pippin checkpoint"),
        (
            "state.json",
            lambda p: p.write_text(p.read_text().replace('"step": 200', '"step": 201')),
            "damaged",
        ),
    ],
)
def test_the_previous_good_one_is_used_and_the_bad_one_named(tmp_path, name, spoil, message):
    good = save_checkpoint(tmp_path, make(800), keep=2)
    bad = save_checkpoint(tmp_path, make(1600), keep=2)
    spoil(bad / name)
    path, problems = newest_intact_checkpoint(tmp_path)
    assert path == good
    assert len(problems) == 1
    assert f"1600/{name}" in problems[0]
    assert message in problems[0]
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(bad)


def test_highest_image_count_wins_not_name_order(tmp_path):
    for images in (800, 8000, 1600):
        save_checkpoint(tmp_path, make(images), keep=5)
    assert newest_intact_checkpoint(tmp_path)[0].name == "8000"


def test_a_failed_write_leaves_the_earlier_ones(tmp_path, monkeypatch):
    save_checkpoint(tmp_path, make(800), keep=1)

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pippin.system.tensors.save_file", full)
    with pytest.raises(OSError, match="No space") as raised:
        save_checkpoint(tmp_path, make(1600), keep=1)
    assert raised.value.filename == str(tmp_path / "1600" / "model.safetensors")
    assert [p.name for p in tmp_path.iterdir()] == ["800"]
    assert newest_intact_checkpoint(tmp_path)[0].name == "800"


def test_a_damaged_checkpoint_of_the_same_name_is_renamed(tmp_path):
    for content in (b"half", b"other half"):
        path = save_checkpoint(tmp_path, make(800), keep=1)
        (path / "model.safetensors").write_bytes(content)
        save_checkpoint(tmp_path, make(800), keep=1)
        assert load_checkpoint(path).state["images_seen"] == 800
        (aside,) = list_aside(tmp_path)
        assert (aside / "model.safetensors").read_bytes() == content
    assert list_checkpoints(tmp_path) == [path]


def test_of_damaged_checkpoints_the_newest_is_kept_and_no_file_of_others_is_removed(tmp_path):
    for images in (800, 1600, 2400):
        path = save_checkpoint(tmp_path, make(images), keep=3)
        (path / "model.safetensors").write_bytes(b"half")
        if images == 800:
            (path / "notes.txt").write_text("mine")
        save_checkpoint(tmp_path, make(images), keep=3)
    assert names(tmp_path) == ["1600", "2400", "800", "damaged-2400", "damaged-800"]
    assert names(tmp_path / "damaged-800") == ["notes.txt"]


def test_an_intact_checkpoint_of_the_same_name_is_replaced(tmp_path):
    save_checkpoint(tmp_path, make(800), keep=1)
    other = replace(make(800), model={"w": torch.zeros(3)})
    path = save_checkpoint(tmp_path, other, keep=1)
    assert load_checkpoint(path).model["w"].tolist() == [0, 0, 0]
    assert names(tmp_path) == ["800"]


def test_pruning_keeps_the_checkpoint_just_written_beside_damaged_newer_ones(tmp_path):
    save_checkpoint(tmp_path, make(800), keep=1)
    bad = save_checkpoint(tmp_path, make(6400), keep=2)
    flip_a_bit(bad / "model.safetensors")
    assert newest_intact_checkpoint(tmp_path)[0].name == "800"
    written = save_checkpoint(tmp_path, make(1600), keep=1)
    assert newest_intact_checkpoint(tmp_path)[0] == written
    assert names(tmp_path) == ["1600", "6400"]


@pytest.mark.parametrize("name", ["model.safetensors", "state.json"])
def test_a_damaged_checkpoint_does_not_count_as_kept(tmp_path, name):
    save_checkpoint(tmp_path, make(800), keep=2)
    bad = save_checkpoint(tmp_path, make(1600), keep=2)
    (bad / name).write_bytes((bad / name).read_bytes()[:-10])
    save_checkpoint(tmp_path, make(2400), keep=2)
    assert names(tmp_path) == ["1600", "2400", "800"]
    save_checkpoint(tmp_path, make(3200), keep=2)
    # What no record tells the files of is left; what is ours by its record goes.
    assert names(tmp_path) == (["1600"] if name == "state.json" else []) + ["2400", "3200"]


def test_pruning_leaves_foreign_files(tmp_path):
    (tmp_path / "12").mkdir()
    (tmp_path / "12" / "notes.txt").write_text("a folder of somebody")
    (tmp_path / "7").write_text("a file of somebody")
    (tmp_path / "best").mkdir()
    (tmp_path / ".writing-poems").mkdir()
    moved = tmp_path.with_name(f"{tmp_path.name}-moved")
    save_checkpoint(tmp_path, make(400), keep=1).rename(moved)
    (tmp_path / "400").symlink_to(moved, target_is_directory=True)
    first = save_checkpoint(tmp_path, make(800), keep=1)
    (first / "notes.txt").write_text("mine")
    save_checkpoint(tmp_path, make(1600), keep=1)
    wanted = [".writing-poems", "12", "1600", "400", "7", "800", "best"]
    assert names(tmp_path) == wanted
    assert names(first) == ["notes.txt"] and names(tmp_path / "12") == ["notes.txt"]
    assert len(names(moved)) == 4
    assert [path.name for path in list_checkpoints(tmp_path)] == ["1600", "400"]


@pytest.mark.parametrize("name", ["²", "007", "8e2", "-8", "८"])
def test_names_that_only_look_like_numbers_are_no_checkpoints(tmp_path, name):
    save_checkpoint(tmp_path, make(800), keep=1).rename(tmp_path / name)
    assert list_checkpoints(tmp_path) == []
    assert newest_intact_checkpoint(tmp_path) == (None, [])


def test_a_checkpoint_on_a_bad_disk_is_skipped(tmp_path, monkeypatch):
    good = save_checkpoint(tmp_path, make(800), keep=2)
    bad = save_checkpoint(tmp_path, make(1600), keep=2)
    real = checkpoint.file_digest

    def broken(path):
        if path.parent == bad:
            raise OSError(5, "Input/output error", str(path))
        return real(path)

    monkeypatch.setattr(checkpoint, "file_digest", broken)
    path, problems = newest_intact_checkpoint(tmp_path)
    assert path == good and len(problems) == 1
    assert "1600/model.safetensors: not readable (Input/output error)" in problems[0]


@pytest.mark.parametrize("content", ['{"sha256": {"../800/state.json": ""}}', '{"sha256": [1]}'])
def test_a_record_cannot_name_files_elsewhere_for_removal(tmp_path, content):
    save_checkpoint(tmp_path, make(800), keep=2)
    hostile = save_checkpoint(tmp_path, make(400), keep=2)
    (hostile / "state.json").write_text(content)
    remove_checkpoint(hostile)
    assert len(names(tmp_path / "800")) == len(names(hostile)) == 4


def test_the_remains_of_a_killed_writer_are_no_checkpoint(tmp_path):
    (tmp_path / ".writing-900-1").mkdir()
    assert newest_intact_checkpoint(tmp_path) == (None, [])
    save_checkpoint(tmp_path, make(800), keep=1)
    assert [p.name for p in tmp_path.iterdir()] == ["800"]


def test_the_remains_of_a_killed_writer_are_removed_before_anything_is_written(
    tmp_path, monkeypatch
):
    """The disk may have no room for both; and containers repeat process ids."""
    for name in (f".writing-800-{os.getpid()}", ".writing-900-1"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.safetensors").write_bytes(b"part")
    real, present = checkpoint.save_tensors, []

    def watched(file, tensors):
        present.append([path for path in tmp_path.rglob("*") if path.is_file()])
        real(file, tensors)

    monkeypatch.setattr(checkpoint, "save_tensors", watched)
    save_checkpoint(tmp_path, make(800), keep=1)
    assert present[0] == [] and names(tmp_path) == ["800"]


@pytest.mark.parametrize("name", ["state.json", "ema.safetensors"])
def test_a_fifo_in_a_checkpoint_is_skipped_without_waiting(tmp_path, name):
    save_checkpoint(tmp_path, make(800), keep=2)
    bad = save_checkpoint(tmp_path, make(1600), keep=2)
    (bad / name).unlink()
    os.mkfifo(bad / name)
    path, (problem,) = newest_intact_checkpoint(tmp_path)
    assert path is not None and path.name == "800" and name in problem
    save_checkpoint(tmp_path, make(2400), keep=1)
    assert newest_intact_checkpoint(tmp_path)[0].name == "2400"
