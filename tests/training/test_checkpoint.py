# SPDX-License-Identifier: Apache-2.0
"""Checkpoints: whole or absent, verified, and the previous good one is found."""

import pytest
import torch

from pippin.training.checkpoint import (
    Checkpoint,
    CheckpointError,
    load_checkpoint,
    load_weights,
    newest_good,
    save_checkpoint,
)


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
    path, problems = newest_good(tmp_path)
    assert path == good
    assert len(problems) == 1
    assert f"1600/{name}" in problems[0]
    assert message in problems[0]
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(bad)


def test_highest_image_count_wins_not_name_order(tmp_path):
    for images in (800, 8000, 1600):
        save_checkpoint(tmp_path, make(images), keep=5)
    assert newest_good(tmp_path)[0].name == "8000"


def test_a_failed_write_leaves_the_earlier_ones(tmp_path, monkeypatch):
    save_checkpoint(tmp_path, make(800), keep=1)

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pippin.system.tensors.save_file", full)
    with pytest.raises(OSError, match="No space") as raised:
        save_checkpoint(tmp_path, make(1600), keep=1)
    assert raised.value.filename == str(tmp_path / "1600" / "model.safetensors")
    assert [p.name for p in tmp_path.iterdir()] == ["800"]
    assert newest_good(tmp_path)[0].name == "800"


def test_a_damaged_checkpoint_of_the_same_place_is_replaced(tmp_path):
    path = save_checkpoint(tmp_path, make(800), keep=1)
    (path / "model.safetensors").write_bytes(b"")
    save_checkpoint(tmp_path, make(800), keep=1)
    assert load_checkpoint(path).state["images_seen"] == 800


def test_what_a_killed_writer_left_is_no_checkpoint(tmp_path):
    (tmp_path / ".writing-900-1").mkdir()
    assert newest_good(tmp_path) == (None, [])
    save_checkpoint(tmp_path, make(800), keep=1)
    assert [p.name for p in tmp_path.iterdir()] == ["800"]
