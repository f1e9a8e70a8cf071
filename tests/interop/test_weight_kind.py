# SPDX-License-Identifier: Apache-2.0
"""Kind of weights, raw or averaged, from names and files, or unknown."""

import json

import pytest
import torch
from safetensors.torch import save_file

from pippin.interop.weight_files import read_weights
from pippin.interop.wrappers import average_of_config, kind_of_entry, kind_of_folder

WEIGHTS = {"a": torch.ones(2)}


@pytest.mark.parametrize(
    ("entry", "siblings", "kind"),
    [
        ("ema", ["model", "opt"], "ema"),
        ("state_dict_ema", [], "ema"),
        ("ema_model.module", [], "ema"),
        ("model.params_ema", [], "ema"),
        ("ema.shadow_params", ["decay"], "ema"),
        ("EMA", [], "ema"),
        ("model", ["ema"], "raw"),
        ("model", ["opt", "args"], "raw"),
        ("state_dict", ["optimizer_states", "epoch"], "raw"),
        ("state_dict", ["lr_schedulers"], "raw"),
        ("net", ["net_ema"], "raw"),
        ("model_non_ema", [], "unknown"),
        ("state_dict", ["epoch", "options"], "unknown"),
        ("model", [], "unknown"),
        ("schema", ["cinema"], "unknown"),
        ("model", ["scheduler_config"], "unknown"),
        ("", [], "unknown"),
    ],
)
def test_entries_of_checkpoints(entry, siblings, kind):
    assert kind_of_entry(entry, siblings) == kind


@pytest.mark.parametrize(
    ("file", "entry", "siblings", "kind"),
    [
        ("ema_0.9999_250000.pt", "", [], "ema"),
        ("v1-5-pruned-emaonly.ckpt", "state_dict", [], "ema"),
        ("run-EMA.ckpt", "state_dict", ["optimizer_states"], "ema"),
        ("model_ema.pt", "model", ["ema"], "raw"),
        ("model-non-ema.pt", "", [], "unknown"),
        ("model250000.pt", "", [], "unknown"),
    ],
)
def test_names_of_files_count_where_entries_say_nothing(file, entry, siblings, kind):
    assert kind_of_entry(entry, siblings, file) == kind


@pytest.mark.parametrize(
    ("content", "key", "kind"),
    [
        (WEIGHTS, None, "unknown"),
        ({"model": WEIGHTS, "ema": WEIGHTS}, None, "ema"),
        ({"model": WEIGHTS, "ema": WEIGHTS}, "model", "raw"),
        ({"state_dict": WEIGHTS, "state_dict_ema": WEIGHTS}, None, "ema"),
        ({"model": WEIGHTS}, None, "unknown"),
        ({"model": WEIGHTS, "optimizer": {"state": {}}}, None, "raw"),
        ({"model": {"module": WEIGHTS, "more": {}}, "ema": WEIGHTS}, "model", "raw"),
        ({"ema": {"module": WEIGHTS, "num": torch.ones(1)}, "model": WEIGHTS}, None, "ema"),
        ({"generator": WEIGHTS, "generator_ema": WEIGHTS}, "generator", "raw"),
        ({"generator": WEIGHTS, "generator_ema": WEIGHTS}, "generator_ema", "ema"),
    ],
)
def test_files_of_checkpoints(tmp_path, content, key, kind):
    torch.save(content, tmp_path / "w.pt")
    assert read_weights(tmp_path / "w.pt", ("a",), key).kind == kind


@pytest.mark.parametrize(
    ("averages", "kind"),
    [([], "unknown"), (["a"], "raw"), (["a", "b"], "ema")],
)
def test_checkpoints_of_latent_diffusion(tmp_path, averages, kind):
    names = ("a", "b")
    state = {f"model.diffusion_model.{name}": torch.ones(1) for name in names}
    state |= {f"model_ema.diffusion_model{name}": torch.ones(1) for name in averages}
    torch.save({"state_dict": state}, tmp_path / "w.ckpt")
    result = read_weights(tmp_path / "w.ckpt", names)
    assert result.kind == kind
    assert any("averaged" in note for note in result.notes) == bool(averages)


@pytest.mark.parametrize(
    ("own", "others", "config", "kind"),
    [
        ("unet/m.safetensors", [], {}, "unknown"),
        ("unet/m.safetensors", ["unet_ema/config.json"], {}, "raw"),
        ("transformer_ema/m.safetensors", ["transformer/config.json"], {}, "ema"),
        ("renamed/m.safetensors", [], {"decay": 0.999, "optimization_step": 7}, "ema"),
        ("unet/m.non_ema.safetensors", [], {}, "raw"),
        ("unet/m.safetensors", ["unet/m.non_ema.safetensors"], {}, "ema"),
        ("unet/m.safetensors", ["unet/m.ema.safetensors"], {}, "raw"),
        ("unet/m.bin", [], {}, "unknown"),
    ],
)
def test_folders_of_diffusers(tmp_path, own, others, config, kind):
    for name in (own, *others):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps({}))
    weights = tmp_path / own
    if weights.suffix == ".safetensors":
        save_file(WEIGHTS, weights)
    assert kind_of_folder(weights.parent, weights, config) == kind


def test_what_pippin_exported_says_it_itself(tmp_path):
    path = tmp_path / "m.safetensors"
    for stated, kind in (("ema-share-0.1", "ema-share-0.1"), ("raw", "raw"), ("odd", "unknown")):
        save_file(WEIGHTS, path, metadata={"pippin_weights": stated})
        assert kind_of_folder(tmp_path, path, {}) == kind
    path.write_bytes(b"damaged")  # said by whoever reads its tensors
    assert kind_of_folder(tmp_path, path, {}) == "unknown"


def test_the_decay_of_an_average_is_kept():
    assert average_of_config({"decay": 0.9999}) == "decay 0.9999"
    assert average_of_config({}) is None and average_of_config({"decay": "x"}) is None
