# SPDX-License-Identifier: Apache-2.0
"""Kind of weights (raw or averaged), from the file to the manifest of samples."""

import json

import diffusers
import pytest
import torch
from safetensors.torch import load_file

from pippin.cli.main import main
from pippin.runs.trained import load_trained_weights
from pippin.sampling.sample_folder import read_manifest

AUTOENCODER = ["--autoencoder", "pippin/openmoji-f4"]
TINY = {
    "num_attention_heads": 2,
    "attention_head_dim": 8,
    "num_layers": 1,
    "sample_size": 8,
    "num_embeds_ada_norm": 3,
}
PATCHES = "denoiser.patches.linear.weight"


def save_dit(folder, seed):
    torch.manual_seed(seed)
    model = diffusers.DiTTransformer2DModel(**TINY)
    model.save_pretrained(folder)
    return model.state_dict()["pos_embed.proj.weight"].flatten()


@pytest.fixture
def pair(tmp_path):
    """A checkpoint of a training script of diffusers: raw weights and their average."""
    raw = save_dit(tmp_path / "checkpoint/transformer", 0)
    averaged = save_dit(tmp_path / "checkpoint/transformer_ema", 1)
    config = tmp_path / "checkpoint/transformer_ema/config.json"
    ema = {"decay": 0.999, "optimization_step": 9, "power": 0.75, "use_ema_warmup": False}
    config.write_text(json.dumps(json.loads(config.read_text()) | ema))
    return {"raw": raw, "ema": averaged}


def converted(capsys, source, out, *options):
    command = ["convert", str(source), str(out), "--from", "diffusers", *AUTOENCODER, *options]
    assert main(command) == 0
    return " ".join(capsys.readouterr().out.split())


def test_averaged_weights_beside_raw_ones_are_taken_and_named(tmp_path, pair, capsys):
    said = converted(capsys, tmp_path / "checkpoint", tmp_path / "out")
    assert "averaged weights of transformer_ema were read; for the raw weights" in said
    assert "ema weights (decay 0.999), images seen: unknown" in said
    trained = load_trained_weights(str(tmp_path / "out"))
    assert (trained.weights, trained.average) == ("ema", "decay 0.999")
    assert torch.equal(trained.tensors[PATCHES].flatten(), pair["ema"])
    (parent,) = trained.as_parent()
    assert (parent["weights"], parent["average"]) == ("ema", "decay 0.999")


def test_raw_weights_are_raw_in_export_lineage_and_samples(tmp_path, pair, capsys):
    out = tmp_path / "out"
    said = converted(capsys, tmp_path / "checkpoint/transformer", out)
    assert "raw weights were read; averaged ones are in" in said
    assert "--init.weights raw" in said
    trained = load_trained_weights(str(out))
    assert trained.weights == trained.as_parent()[0]["weights"] == "raw"
    assert torch.equal(trained.tensors[PATCHES].flatten(), pair["raw"])
    sample = ["sample", str(out), "--seeds", "0:2", "--steps", "1"]
    assert main([*sample, "--out", str(tmp_path / "s")]) == 0
    assert (
        "2 images in" in (said := capsys.readouterr().out) and "sampled from raw weights" in said
    )
    protocol = read_manifest(tmp_path / "s").protocol
    assert protocol["model.weights"] == protocol["sampling.weights"] == "raw"
    assert main([*sample, "--weights", "ema", "--out", str(tmp_path / "t")]) == 2
    said = capsys.readouterr().err
    assert "holds raw weights only; asked for ema weights" in said and "--weights raw" in said


def test_the_kind_goes_to_diffusers_and_back(tmp_path, pair, capsys):
    converted(capsys, tmp_path / "checkpoint/transformer", tmp_path / "out")
    for command in (
        ["export", str(tmp_path / "out"), str(tmp_path / "again")],
        ["export", str(tmp_path / "out"), str(tmp_path / "theirs"), "--to", "diffusers-model"],
    ):
        assert main(command) == 0
        assert "raw weights, images seen: unknown" in capsys.readouterr().out
    assert load_trained_weights(str(tmp_path / "again")).weights == "raw"
    converted(capsys, tmp_path / "theirs", tmp_path / "back")
    back = load_trained_weights(str(tmp_path / "back"))
    assert back.weights == "raw" and torch.equal(back.tensors[PATCHES].flatten(), pair["raw"])


def test_what_nobody_says_is_unknown_or_told_by_the_user(tmp_path, capsys):
    save_dit(tmp_path / "pipe/transformer", 0)
    said = converted(capsys, tmp_path / "pipe", tmp_path / "out")
    assert (
        "unknown whether these weights are raw or averaged" in said
        and "weights of unknown kind" in said
    )
    assert "--init.weights" not in said
    sample = ["sample", str(tmp_path / "out"), "--seeds", "0", "--steps", "1", "--out"]
    assert main([*sample, str(tmp_path / "s")]) == 0
    assert "sampled from weights of unknown kind" in capsys.readouterr().out
    assert read_manifest(tmp_path / "s").protocol["model.weights"] == "unknown"
    # A run that starts there asks for ema unless it is told otherwise; of an unknown kind may be.
    assert load_trained_weights(str(tmp_path / "out"), "ema").weights == "unknown"
    said = converted(capsys, tmp_path / "pipe", tmp_path / "told", "--weights", "raw")
    assert (
        "unknown whether" not in said
        and load_trained_weights(str(tmp_path / "told")).weights == "raw"
    )


def test_a_kind_that_the_file_contradicts_is_refused(tmp_path, pair, capsys):
    command = ["convert", str(tmp_path / "checkpoint"), str(tmp_path / "out")]
    assert main([*command, "--from", "diffusers", *AUTOENCODER, "--weights", "raw"]) == 2
    assert "--weights raw: the weights read from" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    stored = load_file(tmp_path / "checkpoint/transformer/diffusion_pytorch_model.safetensors")
    assert torch.equal(stored["pos_embed.proj.weight"].flatten(), pair["raw"])
