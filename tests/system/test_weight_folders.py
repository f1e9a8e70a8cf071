# SPDX-License-Identifier: Apache-2.0
import json

import pytest
import torch
from safetensors.torch import save_file

from pippin.system.weight_files import read_tensors, stored_types
from pippin.system.weight_folders import find_weights

STEM = "diffusion_pytorch_model"


@pytest.mark.parametrize(
    ("names", "found", "variant"),
    [
        (["{}.safetensors"], "{}.safetensors", None),
        (["{}.bin", "{}.safetensors"], "{}.safetensors", None),
        (["{}.fp16.safetensors", "{}.bin"], "{}.bin", None),
        (["{}.fp16.safetensors"], "{}.fp16.safetensors", "fp16"),
        (["{}.non_ema.safetensors", "{}.non_ema.bin"], "{}.non_ema.safetensors", "non_ema"),
        (["{}.fp16.bin"], "{}.fp16.bin", "fp16"),
        (
            ["{}-00001-of-00001.safetensors", "{}.safetensors.index.json"],
            "{}.safetensors.index.json",
            None,
        ),
        (["{}-00001-of-00001.bin", "{}.bin.index.json"], "{}.bin.index.json", None),
        (
            ["{}.fp16-00001-of-00001.safetensors", "{}.safetensors.index.fp16.json"],
            "{}.safetensors.index.fp16.json",
            "fp16",
        ),
        (["{}.fp16.safetensors.index.json"], "{}.fp16.safetensors.index.json", "fp16"),
    ],
)
def test_the_names_that_the_libraries_give_weights(tmp_path, names, found, variant):
    for name in names:
        (tmp_path / name.format(STEM)).touch()
    weights = find_weights(tmp_path)
    assert (weights.path.name, weights.variant) == (found.format(STEM), variant)
    assert weights.safetensors == ("safetensors" in found)


def test_what_is_there_is_named_where_there_are_none_or_too_many(tmp_path):
    (tmp_path / "config.json").touch()
    (tmp_path / "model.bin").touch()
    (tmp_path / f"{STEM}_ema.safetensors").touch()  # nobody's name
    with pytest.raises(
        ValueError, match=rf"holds no {STEM}\.safetensors or .*config.json, .*, model"
    ):
        find_weights(tmp_path)
    with pytest.raises(ValueError, match=r"holds no model\.safetensors, .*files: .*model\.bin"):
        find_weights(tmp_path, "model", pickled=False)
    for variant in ("fp16", "ema"):
        (tmp_path / f"{STEM}.{variant}.safetensors").touch()
    with pytest.raises(ValueError, match=r"several variants .*: ema, fp16; copy one"):
        find_weights(tmp_path)


def test_types_are_read_of_headers_and_of_saved_files(tmp_path):
    tensors = {"a": torch.ones(3).to(torch.float8_e4m3fn), "b": torch.ones(()).half()}
    save_file(tensors, tmp_path / "w.safetensors")
    torch.save(tensors, tmp_path / "w.bin")
    index = {"weight_map": dict.fromkeys(tensors, "w.safetensors")}
    (tmp_path / "w.safetensors.index.json").write_text(json.dumps(index))
    for name in ("w.safetensors", "w.bin", "w.safetensors.index.json"):
        assert stored_types(tmp_path / name) == {"a": "F8_E4M3", "b": "F16"}
    (tmp_path / "w.safetensors").write_bytes(b"x" * 20)
    with pytest.raises(ValueError, match="damaged or not a safetensors file"):
        stored_types(tmp_path / "w.safetensors")


def test_a_saved_file_may_have_any_ending_and_holds_tensors_only(tmp_path):
    torch.save({"a": torch.ones(2)}, tmp_path / "weights")
    assert set(read_tensors(tmp_path / "weights")) == {"a"}
    torch.save({"a": torch.ones(2), "step": 3}, tmp_path / "w.pth")
    with pytest.raises(ValueError, match="holds more than tensors by name: step"):
        read_tensors(tmp_path / "w.pth")
