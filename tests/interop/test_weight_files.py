# SPDX-License-Identifier: Apache-2.0
import argparse
import fractions
import json

import pytest
import torch
from safetensors.torch import save_file

from pippin.interop.weight_files import read_weights as read_network

WEIGHTS = {"a.weight": torch.arange(6.0).reshape(2, 3), "b": torch.ones(2)}
WANTED = ("a.weight", "b")
OTHER = {name: value + 1 for name, value in WEIGHTS.items()}


def read_weights(path, key=None):
    return read_network(path, WANTED, key)


def same(result, expected):
    return set(result) == set(expected) and all(
        torch.equal(result[name], expected[name]) for name in expected
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
    assert read.notes == ("of its entries, 'ema' was read; skipped: args, model, opt",)
    assert (read.entry, read.averaged, read.settings) == ("ema", True, {"lr": 1})
    raw = read_weights(path, "model")
    assert same(raw.tensors, OTHER) and (raw.entry, raw.averaged) == ("model", False)
    with pytest.raises(ValueError, match=r"no weights under 'none'; its entries: args, ema.* ema"):
        read_weights(path, "none")


def test_finds_the_denoiser_of_a_pipeline(tmp_path):
    inner = {f"model.diffusion_model.{name}": value for name, value in WEIGHTS.items()}
    torch.save(
        {"state_dict": inner | {"first_stage_model.x": torch.ones(1)}, "epoch": 3},
        tmp_path / "w.ckpt",
    )
    read = read_weights(tmp_path / "w.ckpt")
    assert same(read.tensors, WEIGHTS) and not read.averaged
    assert read.notes == (
        "of its entries, 'state_dict' was read; skipped: epoch",
        "the weights under 'model.diffusion_model.' were read",
        "1 other tensors of the file were skipped",
    )
    averages = {
        "model_ema.diffusion_modelaweight": OTHER["a.weight"],
        "model_ema.diffusion_modelb": OTHER["b"],
        "model_ema.num_updates": torch.ones(1),
    }
    torch.save({"state_dict": inner | averages}, tmp_path / "e.ckpt")
    read = read_weights(tmp_path / "e.ckpt")
    assert same(read.tensors, OTHER) and "averaged weights" in read.notes[0]
    assert (read.entry, read.averaged) == ("state_dict.model_ema", True)
    assert same(read_weights(tmp_path / "e.ckpt", "model.diffusion_model").tensors, WEIGHTS)
    del averages["model_ema.diffusion_modelb"]  # what is not trained has no average there
    torch.save({"state_dict": inner | averages}, tmp_path / "f.ckpt")
    assert same(read_weights(tmp_path / "f.ckpt").tensors, WEIGHTS)


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
        ("w.safetensors", b"x" * 100, "damaged or not a safetensors file"),
        ("w.pt", b"", "damaged or not a torch.save file"),
        ("w.pt", b"x" * 100, "damaged or not a torch.save file"),
        ("w.ckpt", b"PK\x03\x04" + b"x" * 100, "damaged or not a torch.save file"),
        ("w.ckpt", b"epoch: 3\n", "damaged or not a torch.save file"),
        ("w.pt", b"\x80\x02.", "damaged or not a torch.save file"),
        ("w.pt", b"\x80\x02J\x01", "damaged or not a torch.save file"),
        ("w.safetensors.index.json", b"[]", "not an index"),
        ("w.txt", b"", "the suffix .txt; weights are read from .safetensors"),
        ("w", b"", "the suffix none"),
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
    with pytest.raises(ValueError, match="holds no weights; its entries: model, step"):
        read_weights(tmp_path / "empty.pt")
    save_file({f"net.{i}": torch.ones(1) for i in range(9)}, tmp_path / "other.safetensors")
    with pytest.raises(
        ValueError, match=r"none of its 9 tensors is called a\.weight or b.*net\.0"
    ):
        read_weights(tmp_path / "other.safetensors")
    with pytest.raises(FileNotFoundError, match="is not a file"):
        read_weights(tmp_path / "absent.pt")
    with pytest.raises(FileNotFoundError, match=r"a folder, .* in it: empty\.pt, list\.pt"):
        read_weights(tmp_path)


def under(prefix, state):
    return {prefix + name: value for name, value in state.items()}


FSDP = {"_fsdp_wrapped_module.a._fsdp_wrapped_module.weight": WEIGHTS["a.weight"]}
FSDP |= {"_fsdp_wrapped_module.b": WEIGHTS["b"]}
COUNTS = {"step": torch.tensor(5), "initted": torch.tensor(True)}
WRAPPED = {
    "FSDP": ({"model": FSDP}, "model"),
    "checkpointed": (
        {"a._checkpoint_wrapped_module.weight": WEIGHTS["a.weight"], "b": WEIGHTS["b"]},
        "",
    ),
    "compiled inside": ({"a._orig_mod.weight": WEIGHTS["a.weight"], "b": WEIGHTS["b"]}, ""),
    "Lightning": ({"state_dict": under("model.", WEIGHTS), "epoch": 1}, "state_dict.model"),
    "Lightning, averages": (
        {"state_dict": under("model.", OTHER) | under("ema_model.", WEIGHTS)},
        "state_dict.ema_model",
    ),
    "Fabric under DeepSpeed": ({"module": under("_forward_module.", WEIGHTS)}, "module"),
    "ema-pytorch": (
        {
            "model": OTHER,
            "ema": under("online_model.", OTHER) | under("ema_model.", WEIGHTS) | COUNTS,
        },
        "ema.ema_model",
    ),
    "ema-pytorch of a wrapped network": (
        {"ema": under("ema_model.model.", WEIGHTS) | under("online_model.model.", OTHER)},
        "ema.ema_model.model",
    ),
    "shadow": ({"model": OTHER, "ema": {"decay": 0.9, "shadow": WEIGHTS}}, "ema.shadow"),
    "AveragedModel": (
        {"swa": under("module.", WEIGHTS) | {"n_averaged": torch.tensor(3)}, "net": OTHER},
        "swa",
    ),
    "averages as a callback holds them": (
        {"state_dict": under("model.", OTHER), "callbacks": {"EMA": {"ema_weights": WEIGHTS}}},
        "callbacks.EMA.ema_weights",
    ),
    "a trainer's attribute": ({"trainer": {"net": {"ema": under("net.", WEIGHTS)}}}, None),
    "moments of an optimizer by name": (
        {"optimizer": {"shadow": OTHER}, "exp_avg": OTHER, "model": WEIGHTS},
        "model",
    ),
    "plain beside averages": (OTHER | under("ema_model.", WEIGHTS), "ema_model"),
}


@pytest.mark.parametrize("case", WRAPPED)
def test_the_network_is_found_in_what_wraps_it(tmp_path, case):
    content, entry = WRAPPED[case]
    torch.save(content, tmp_path / "w.pt")
    read = read_weights(tmp_path / "w.pt")
    assert same(read.tensors, WEIGHTS)
    assert entry is None or read.entry == entry


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"student": WEIGHTS, "teacher": OTHER}, "choose one: --key student or --key teacher"),
        ({"ema_0.99": WEIGHTS, "ema_0.999": OTHER}, "--key ema_0.99 or --key ema_0.999"),
        (
            {"model": WEIGHTS, "ema": {"decay": 0.9, "shadow_params": [torch.ones(2)]}},
            "under 'ema.shadow_params' as a list without names, .*--key model takes the raw",
        ),
        ({"shadow_params": [torch.ones(2)]}, "'shadow_params' as a list without names"),
        ({"model": {"_flat_param": torch.ones(9)}}, "FSDP has flattened"),
        (
            {"a.weight": WEIGHTS["a.weight"], "a._orig_mod.weight": OTHER["a.weight"]},
            "two tensors are called a.weight",
        ),
        ({"a.qweight": torch.ones(2, dtype=torch.int32)}, "quantised by GPTQ or AWQ: a.qweight"),
    ],
)
def test_what_cannot_be_told_is_refused_with_what_is_there(tmp_path, content, message):
    torch.save(content, tmp_path / "w.pt")
    with pytest.raises(ValueError, match=message):
        read_weights(tmp_path / "w.pt")


def test_a_key_may_be_a_prefix_or_an_inner_entry(tmp_path):
    state = under("model.", OTHER) | under("ema_model.", WEIGHTS)
    torch.save({"state_dict": state, "model": {"shadow": OTHER}}, tmp_path / "w.pt")
    for key, expected in (
        ("state_dict.model", OTHER),
        ("state_dict", WEIGHTS),
        ("ema_model", WEIGHTS),
        ("model", OTHER),
    ):
        assert same(read_weights(tmp_path / "w.pt", key).tensors, expected), key


def test_what_lies_beside_the_weights_is_listed(tmp_path):
    averages = under("online_model.", OTHER) | under("ema_model.", WEIGHTS)
    torch.save({"step": 3, "model": OTHER, "ema": averages | COUNTS}, tmp_path / "w.pt")
    read = read_weights(tmp_path / "w.pt")
    assert read.siblings == ("model", "step", "online_model") and read.averaged
    raw = read_weights(tmp_path / "w.pt", "online_model")
    assert same(raw.tensors, OTHER) and not raw.averaged
    assert raw.siblings == ("model", "step", "ema_model")


def test_shards_of_torch_save_are_read_whole(tmp_path):
    for number, (name, value) in enumerate(WEIGHTS.items()):
        torch.save({name: value}, tmp_path / f"{number}.bin")
    places = {name: f"{number}.bin" for number, name in enumerate(WEIGHTS)}
    index = tmp_path / "w.bin.index.json"
    index.write_text(json.dumps({"weight_map": places}))
    assert same(read_weights(index).tensors, WEIGHTS)
    index.write_text(json.dumps({"weight_map": places | {"c": "0.bin"}}))
    with pytest.raises(ValueError, match="names 1 tensors that its files lack, such as c"):
        read_weights(index)
    (tmp_path / "1.bin").unlink()
    with pytest.raises(ValueError, match=r"missing files: 1\.bin"):
        read_weights(index)


@pytest.mark.parametrize("name", ["w.gguf", "w.safetensors", "w.bin"])
def test_a_file_of_llama_cpp_is_told_whatever_its_name(tmp_path, name):
    (tmp_path / name).write_bytes(b"GGUF" + bytes(100))
    with pytest.raises(ValueError, match="is a GGUF file, whose weights are quantised"):
        read_weights(tmp_path / name)
