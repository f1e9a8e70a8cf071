# SPDX-License-Identifier: Apache-2.0
"""A power cut at any time leaves an intact checkpoint, which is told from a damaged one."""

import pytest
import torch
from power_cut import each_state, final_states, recorded

from pippin.runs.checkpoint import (
    Checkpoint,
    load_checkpoint,
    newest_intact_checkpoint,
    save_checkpoint,
)
from pippin.training.autoencoder.state import RunState, read_state, write_state


def make(images):
    tensor = torch.full((64,), float(images))
    return Checkpoint(
        model={"w": tensor},
        ema={"w": tensor + 1},
        optimizer={"exp_avg/w": tensor + 2},
        state={"images_seen": images, "step": images // 8},
    )


def newest(folder):
    path, _ = newest_intact_checkpoint(folder / "run" / "checkpoints")
    if path is None:
        return None
    found = load_checkpoint(path)
    assert torch.equal(found.model["w"], make(found.state["images_seen"]).model["w"])
    return found.state["images_seen"]


@pytest.mark.parametrize("keep", [1, 2])
def test_the_earlier_checkpoint_or_the_new_one_is_there(keep, tmp_path):
    folder = tmp_path / "disk"
    save_checkpoint(folder / "run/checkpoints", make(800), keep=keep)
    with recorded(folder) as disk:
        save_checkpoint(folder / "run/checkpoints", make(1600), keep=keep)
    found = [newest(state) for state in each_state(disk, tmp_path / "states")]
    assert len(found) > 15 and set(found) == {800, 1600}
    assert {newest(state) for state in final_states(disk, tmp_path / "end")} == {1600}


def test_a_first_checkpoint_is_there_once_it_is_said_to_be(tmp_path):
    (tmp_path / "disk").mkdir()
    with recorded(tmp_path / "disk") as disk:
        save_checkpoint(tmp_path / "disk/run/checkpoints", make(800), keep=1)
    found = [newest(state) for state in each_state(disk, tmp_path / "states")]
    assert set(found) == {None, 800}
    assert {newest(state) for state in final_states(disk, tmp_path / "end")} == {800}


def test_a_damaged_one_in_the_place_costs_no_other(tmp_path):
    folder = tmp_path / "disk" / "run" / "checkpoints"
    save_checkpoint(folder, make(800), keep=2)
    bad = save_checkpoint(folder, make(1600), keep=2)
    (bad / "model.safetensors").write_bytes(b"")
    with recorded(tmp_path / "disk") as disk:
        save_checkpoint(folder, make(1600), keep=1)
    assert {newest(state) for state in each_state(disk, tmp_path / "states")} == {800, 1600}
    assert {newest(state) for state in final_states(disk, tmp_path / "end")} == {1600}


def test_an_autoencoders_state_is_the_old_or_the_new_one(tmp_path):
    folder = tmp_path / "disk"
    folder.mkdir()

    def state(step):
        return RunState(tensors={"a": torch.full((9,), step)}, position={"step_count": step})

    write_state(folder, state(1))
    with recorded(folder) as disk:
        write_state(folder, state(2))
    for place in each_state(disk, tmp_path / "states"):
        found = read_state(place)
        assert found.tensors["a"][0] == found.position["step_count"]
