# SPDX-License-Identifier: Apache-2.0
"""Conversion of published weights: latent side, width, and suggested commands."""

import json
import shlex
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from pippin.cli.main import main
from pippin.cli.parsing.options import parse
from pippin.cli.recipe_argument import find_recipe
from pippin.cli.train import TrainCommand
from pippin.conditioning.config import ConditioningConfig, ControlConfig, LabelSemantic, NoSemantic
from pippin.denoisers.dit.published import dit_table
from pippin.denoisers.unet.config import unet
from pippin.denoisers.weights.arguments import ModelSpec
from pippin.denoisers.weights.tensor_table import shapes_of
from pippin.diffusion.config import DiffusionConfig
from pippin.interop.convert import convert, converted_recipe
from pippin.interop.diffusers_format import write_folder
from pippin.interop.published_models import configure
from pippin.model import build_model
from pippin.recipes.checks import check_recipe
from pippin.runs.trained import load_trained_weights
from pippin.transfer.merge import merge
from pippin.transfer.rules import TransferEnds

GOLDEN = Path(__file__).parents[1] / "golden"
NO_CONTROL = ControlConfig(high=(), low=())


def golden(name):
    """Weights of the published class, and its constructor's arguments."""
    with safe_open(GOLDEN / f"{name}.safetensors", framework="pt") as file:
        facts = json.loads(file.metadata()["golden"])
        weights = {
            key.removeprefix("weights."): file.get_tensor(key)
            for key in file.keys()  # noqa: SIM118
            if key.startswith("weights.")
        }
    overrides = {k: v for k, v in facts["hard_coded_overrides"].items() if k != "original_rule"}
    return weights, facts["constructor_arguments"] | overrides


@pytest.mark.parametrize(
    "name", ["dit", "lightningdit", "mdtv2", "pixart", "mmdit_sd3", "ldm_unet", "jit", "ddt"]
)
def test_published_weights_become_a_folder(tmp_path, name, capsys):
    weights, arguments = golden(name)
    pairs = [f"{key}={json.dumps(value)}" for key, value in arguments.items()]
    save_file(weights, tmp_path / "weights.safetensors")
    command = [str(tmp_path / "weights.safetensors"), str(tmp_path / "out"), "--from", name]
    pairs = [pair.replace("null", "None") for pair in pairs]
    assert main(["convert", *command, "--images-seen", "640", "--arguments", *pairs]) == 0
    trained = load_trained_weights(str(tmp_path / "out"))
    assert trained.images_seen == 640 and trained.recipe.data.kind == "none"
    loaded = convert(name, tmp_path / "weights.safetensors", arguments=arguments).loaded
    for key, value in loaded.model.state_dict().items():
        assert torch.equal(trained.tensors[key], value)
    printed = capsys.readouterr().out
    for tensor in (*loaded.unused_tensors, *loaded.zero_filled):
        assert tensor in printed
    if name not in ("mdtv2", "lightningdit", "jit", "ddt"):  # which have no class in diffusers
        there, back = tmp_path / "there", tmp_path / "back"
        assert main(["export", str(tmp_path / "out"), str(there), "--to", "diffusers-model"]) == 0
        assert main(["convert", str(there), str(back), "--from", "diffusers"]) == 0
        again = load_file(back / "model.safetensors")
        assert set(again) == set(trained.tensors)
        for key, value in again.items():
            assert torch.equal(trained.tensors[key], value), key


@pytest.mark.parametrize("name", ["dit", "sit", "lightningdit", "mdtv2", "pixart", "jit", "ddt"])
def test_the_line_that_is_printed_trains_on_from_the_weights(tmp_path, name, capsys):
    """Recipe by name, with the settings that match the shape of these weights."""
    weights, arguments = golden(name)
    save_file(weights, tmp_path / "w.safetensors")
    out = tmp_path / "out"
    pairs = [
        f"{key}={json.dumps(value)}".replace("null", "None") for key, value in arguments.items()
    ]
    command = ["convert", str(tmp_path / "w.safetensors"), str(out), "--from", name]
    assert main([*command, "--arguments", *pairs]) == 0
    printed = capsys.readouterr().out
    (line,) = (line for line in printed.splitlines() if "pippin train" in line)
    words = shlex.split(line.partition("pippin train ")[2])
    _, recipe, rest = find_recipe(words)
    recipe = parse(TrainCommand, "", rest, TrainCommand(recipe=recipe)).recipe
    check_recipe(recipe)
    trained = load_trained_weights(str(out))
    channels = arguments.get("in_channels", 4)
    model = build_model(
        recipe.conditioning, recipe.denoiser, num_classes=3, latent_channels=channels, seed=0
    )
    ends = TransferEnds(old=trained.recipe.denoiser, new=recipe.denoiser)
    _, report = merge(trained.tensors, model, ends, recipe.init.transfer)
    assert set(report.counts()) <= {"copied", "initialised"}
    assert recipe.data.resolution == trained.recipe.data.resolution


@pytest.mark.parametrize("semantic", [LabelSemantic(num_tokens=3), NoSemantic()])
def test_a_unet_of_classes_or_of_nothing_comes_back(tmp_path, semantic):
    rules = {"label": "attention"} if semantic.kind == "label" else {}
    conditioning = ConditioningConfig(semantic=semantic, rules=rules, control=NO_CONTROL)
    denoiser = unet("tiny")
    model = build_model(conditioning, denoiser, num_classes=5, latent_channels=4, seed=0)
    spec = ModelSpec(
        denoiser=denoiser,
        conditioning=conditioning,
        diffusion=DiffusionConfig(schedule="cosine", prediction="x0"),
        latent_channels=4,
        latent_side=16,
        num_classes=5,
    )
    write_folder(tmp_path, spec, model.state_dict())
    back = convert("diffusers", tmp_path).loaded
    assert back.spec.conditioning == conditioning
    assert back.spec.diffusion == spec.diffusion
    state = back.model.state_dict()
    assert set(state) == set(model.state_dict())
    assert all(torch.equal(state[key], value) for key, value in model.state_dict().items())
    (tmp_path / "pippin_extra.safetensors").write_bytes(b"x")
    with pytest.raises(ValueError, match="is damaged or was not written by pippin"):
        convert("diffusers", tmp_path)


def test_a_table_without_a_null_row_is_not_guided_by(tmp_path):
    arguments = {"hidden_size": 32, "depth": 1, "num_heads": 2, "num_classes": 4}
    spec = configure("dit", arguments)
    model = build_model(spec.conditioning, spec.denoiser, num_classes=4, latent_channels=4, seed=0)
    ours = model.state_dict()
    table = dit_table(spec.denoiser, shapes_of(model))
    state = {entry.sources[0]: ours[entry.target] for entry in table}
    state["y_embedder.embedding_table.weight"] = state["y_embedder.embedding_table.weight"][:-1]
    save_file(state, tmp_path / "w.safetensors")
    incoming = convert("dit", tmp_path / "w.safetensors", arguments=arguments)
    assert incoming.loaded.zero_filled == ("conditioner.label_vector.weight, its null row",)
    assert incoming.recipe.sampling.guidance.semantic_scale == 1
    assert incoming.recipe.conditioning.drop.keep == 1
    for wrong in ({"source": 1}, {"depth": None}, {"mlp_ratio": "abc"}, {"learn_sigma": "yes"}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            convert("dit", tmp_path / "w.safetensors", arguments=arguments | wrong)


@pytest.mark.parametrize("name", ["dit", "mdtv2", "pixart"])
def test_the_side_is_read_from_the_weights_where_it_is_not_given(tmp_path, name):
    """Weights of DiT at 512 would silently load as a model of 256."""
    weights, arguments = golden(name)
    save_file(weights, tmp_path / "w.safetensors")
    side = arguments.pop("input_size")
    incoming = convert(name, tmp_path / "w.safetensors", arguments=arguments)
    assert incoming.loaded.spec.latent_side == side != 32  # the class's default
    assert incoming.recipe.data.resolution == 8 * side
    assert any(f"input_size={side}, read from pos_embed" in note for note in incoming.notes)


@pytest.mark.parametrize("source", ["dit", "mdtv2", "pixart"])
def test_a_width_without_heads_is_refused(source):
    with pytest.raises(ValueError, match=r"hidden_size=384 without num_heads: .* give num_heads"):
        configure(source, {"hidden_size": 384, "depth": 12})
    assert configure(source, {"hidden_size": 384, "num_heads": 6}).denoiser.num_heads == 6
    for given in ({}, {"hidden_size": 1152}):
        assert configure(source, given).denoiser.num_heads == 16


@pytest.mark.parametrize("context", [768, 1024])
def test_the_side_in_stable_diffusions_configurations_is_not_that_of_its_latents(context):
    yaml = {"in_channels": 4, "out_channels": 4, "context_dim": context, "num_heads": 8}
    yaml |= {"use_spatial_transformer": True, "image_size": 32}
    found = configure("ldm_unet", yaml)
    assert found.latent_side == 64 and "image_size=32" in found.notes[0]
    assert converted_recipe(found).data.resolution == 512
    assert configure("ldm_unet", yaml | {"image_size": 96}).latent_side == 96
    small = configure("ldm_unet", yaml | {"context_dim": 1280})  # the text-to-image LDM's is true
    assert (small.latent_side, small.notes) == (32, ())
