# SPDX-License-Identifier: Apache-2.0
import argparse
import fractions
import json

import pytest
import torch
from safetensors.torch import save_file

from pippin.interop.weight_files import read_weights

WEIGHTS = {"a.weight": torch.arange(6.0).reshape(2, 3), "b": torch.ones(2)}
OTHER = {name: value + 1 for name, value in WEIGHTS.items()}


def same(found, expected):
    return set(found) == set(expected) and all(
        torch.equal(found[name], expected[name]) for name in expected
    )


def test_reads_plain_weights_of_both_kinds(tmp_path):
    save_file(WEIGHTS, tmp_path / "w.safetensors")
    torch.save(WEIGHTS, tmp_path / "w.pt")
    for name in ("w.safetensors", "w.pt"):
        read = read_weights(tmp_path / name)
        assert same(read.tensors, WEIGHTS) and read.notes == ()


def test_reads_shards_through_their_index(tmp_path):
    for number, (name, value) in enumerate(WEIGHTS.items()):
        save_file({name: value}, tmp_path / f"{number}.safetensors")
    places = {name: f"{number}.safetensors" for number, name in enumerate(WEIGHTS)}
    index = tmp_path / "w.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": places}))
    assert same(read_weights(index).tensors, WEIGHTS)
    index.write_text(json.dumps({"weight_map": {"b": "../w.safetensors"}}))
    with pytest.raises(ValueError, match="outside its folder"):
        read_weights(index)


def test_prefers_averaged_weights_and_says_what_it_left_out(tmp_path):
    path = tmp_path / "w.pt"
    torch.save(
        {"model": OTHER, "ema": WEIGHTS, "opt": {"lr": 1.0}, "args": argparse.Namespace(lr=1)},
        path,
    )
    read = read_weights(path)
    assert same(read.tensors, WEIGHTS)
    assert read.notes == ("of its entries, 'ema' was taken; left out: args, model, opt",)
    assert same(read_weights(path, "model").tensors, OTHER)
    with pytest.raises(ValueError, match="no weights under 'none'; its entries: args, ema"):
        read_weights(path, "none")


def test_finds_the_denoiser_of_a_pipeline(tmp_path):
    inner = {f"model.diffusion_model.{name}": value for name, value in WEIGHTS.items()}
    torch.save(
        {"state_dict": inner | {"first_stage_model.x": torch.ones(1)}, "epoch": 3},
        tmp_path / "w.ckpt",
    )
    read = read_weights(tmp_path / "w.ckpt")
    assert same(read.tensors, WEIGHTS)
    assert read.notes[1] == "1 other tensors of the file were left out"
    averages = {
        "model_ema.diffusion_modelaweight": OTHER["a.weight"],
        "model_ema.diffusion_modelb": OTHER["b"],
        "model_ema.num_updates": torch.ones(1),
    }
    torch.save({"state_dict": inner | averages}, tmp_path / "e.ckpt")
    read = read_weights(tmp_path / "e.ckpt")
    assert same(read.tensors, OTHER) and "averaged weights" in read.notes[0]


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod."])
def test_wrappers_are_taken_off(tmp_path, prefix):
    torch.save({prefix + name: value for name, value in WEIGHTS.items()}, tmp_path / "d.bin")
    assert same(read_weights(tmp_path / "d.bin").tensors, WEIGHTS)
    nested = {"ema": {"num": torch.ones(1), "module": WEIGHTS}, "model": OTHER}
    torch.save(nested, tmp_path / "n.pt")
    assert same(read_weights(tmp_path / "n.pt").tensors, WEIGHTS)


class Evil:
    def __reduce__(self):
        return print, ("this must never be printed",)


def test_never_runs_code_from_a_file(tmp_path, capfd):
    for number, more in enumerate((Evil(), fractions.Fraction(1, 2))):
        path = tmp_path / f"{number}.ckpt"
        torch.save({"state_dict": WEIGHTS, "callbacks": more}, path)
        with pytest.raises(ValueError, match="run code from it, which pippin never does"):
            read_weights(path)
    assert "never be printed" not in capfd.readouterr().out


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("w.safetensors", b"x" * 100, "damaged or no safetensors file"),
        ("w.pt", b"", "damaged or no file of torch.save"),
        ("w.pt", b"x" * 100, "damaged or no file of torch.save"),
        ("w.ckpt", b"PK\x03\x04" + b"x" * 100, "damaged or no file of torch.save"),
        ("w.ckpt", b"epoch: 3\n", "damaged or no file of torch.save"),
        ("w.pt", b"\x80\x02.", "damaged or no file of torch.save"),
        ("w.pt", b"\x80\x02J\x01", "damaged or no file of torch.save"),
        ("w.safetensors.index.json", b"[]", "no index"),
        ("w.txt", b"", "the ending .txt; weights are read from .safetensors"),
        ("w", b"", "the ending none"),
    ],
)
def test_damaged_and_other_files(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_weights(tmp_path / name)


def test_files_without_weights(tmp_path):
    torch.save([1, 2], tmp_path / "list.pt")
    torch.save({"model": {}, "step": 3}, tmp_path / "empty.pt")
    with pytest.raises(ValueError, match="holds a list"):
        read_weights(tmp_path / "list.pt")
    with pytest.raises(ValueError, match="no weights under 'model'"):
        read_weights(tmp_path / "empty.pt")
    with pytest.raises(FileNotFoundError, match="is no file"):
        read_weights(tmp_path / "absent.pt")
