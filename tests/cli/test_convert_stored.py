# SPDX-License-Identifier: Apache-2.0
"""``pippin convert`` of stored weights: rounded, quantised, damaged, or wrapped."""

import json
import math

import diffusers
import pytest
import torch
from safetensors.torch import load_file, save_file

from pippin.cli.main import main
from pippin.denoisers.dit.published import dit_table
from pippin.denoisers.pixart.published import pixart_table
from pippin.denoisers.weights.tensor_table import shapes_of
from pippin.interop.convert import convert
from pippin.interop.published_models import configure
from pippin.model import build_model
from pippin.nn.positions import sincos_2d

ARGUMENTS = {"hidden_size": 32, "depth": 1, "num_heads": 2}
CASES = {
    "dit": (dit_table, ARGUMENTS | {"num_classes": 4, "input_size": 16}),
    "pixart": (
        pixart_table,
        ARGUMENTS | {"caption_channels": 8, "input_size": 16, "lewei_scale": 2.0},
    ),
}
LAYER = "blocks.0.mlp.fc1.weight"


def published(source="dit"):
    """Tensors under published names, with the position table, and the constructor's arguments."""
    table, arguments = CASES[source]
    spec = configure(source, arguments)
    model = build_model(spec.conditioning, spec.denoiser, num_classes=4, latent_channels=4, seed=0)
    ours = model.state_dict()
    entries = [one for one in table(spec.denoiser, shapes_of(model)) if one.target in ours]
    state = {}
    for entry in entries:
        parts = ours[entry.target].chunk(len(entry.sources))
        state |= dict(zip(entry.sources, parts, strict=True))
    draws = torch.Generator().manual_seed(0)
    state = {k: v + 0.1 * torch.randn(v.shape, generator=draws) for k, v in state.items()}
    step = 1 / arguments.get("lewei_scale", 1.0)
    positions = sincos_2d(8, 8, 32, row_step=step, column_step=step)
    return state | {"pos_embed": positions.reshape(1, 64, 32)}, arguments


@pytest.mark.parametrize("source", CASES)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float8_e4m3fn])
@pytest.mark.parametrize("cast", [False, True])
def test_a_rounded_table_of_positions_is_known_again(tmp_path, source, dtype, cast):
    state, arguments = published(source)
    state["pos_embed"] = state["pos_embed"].to(dtype)
    if cast:  # rounded in training, and stored wider
        state["pos_embed"] = state["pos_embed"].float()
    save_file(state, tmp_path / "w.safetensors")
    convert(source, tmp_path / "w.safetensors", arguments=arguments)
    other = arguments | ({"lewei_scale": 1.0} if source == "pixart" else {})
    if source == "dit":
        state["pos_embed"] = (state["pos_embed"].float() * 1.5).to(dtype)
        save_file(state, tmp_path / "w.safetensors")
    with pytest.raises(ValueError, match="not the sine-cosine table"):
        convert(source, tmp_path / "w.safetensors", arguments=other)


def test_half_precision_weights_are_those_numbers(tmp_path):
    state, arguments = published()
    half = {name: value.half() for name, value in state.items()}
    torch.save({"ema": half}, tmp_path / "w.pt")
    found = convert("dit", tmp_path / "w.pt", arguments=arguments).loaded.model.state_dict()
    assert torch.equal(found["denoiser.blocks.0.mlp.linear_in.weight"], half[LAYER].float())


def test_float8_beside_its_scale_is_multiplied_out(tmp_path):
    state, arguments = published()
    scale = state[LAYER].abs().max() / 448
    eight = {LAYER: (state[LAYER] / scale).to(torch.float8_e4m3fn)}
    name = LAYER.replace(".weight", ".scale_weight")
    save_file(state | eight | {name: scale}, tmp_path / "w.safetensors")
    incoming = convert("dit", tmp_path / "w.safetensors", arguments=arguments)
    found = incoming.loaded.model.state_dict()["denoiser.blocks.0.mlp.linear_in.weight"]
    assert torch.equal(found, eight[LAYER].float() * scale)
    assert any("multiplied by their scales" in note for note in incoming.notes)
    assert incoming.loaded.unused_tensors == ("pos_embed",)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: {LAYER: w.to(torch.int8)}, f"quantised as int8: {LAYER}"),
        (lambda w: {LAYER: w.long()}, f"dit: {LAYER} are stored as int64"),
        (lambda w: {LAYER: w * math.inf}, r"mlp\.fc1\.weight \(.*4096 numbers\)"),
        (
            lambda w: {LAYER: w.half() * math.nan},
            r"dit: .*in 1 of \d+ tensors: .*4096 NaN of 4096",
        ),
        (lambda w: {f"{LAYER}.absmax": torch.ones(3)}, "quantised by bitsandbytes"),
    ],
)
def test_weights_that_are_no_numbers_are_refused_by_name(tmp_path, capsys, change, message):
    state, arguments = published()
    torch.save(state | change(state[LAYER]), tmp_path / "w.pt")
    with pytest.raises(ValueError, match=message):
        convert("dit", tmp_path / "w.pt", arguments=arguments)
    pairs = [f"{key}={value}" for key, value in arguments.items()]
    command = ["convert", str(tmp_path / "w.pt"), str(tmp_path / "out"), "--from", "dit"]
    assert main([*command, "--arguments", *pairs]) == 2
    assert "Traceback" not in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_nan_in_what_is_not_taken_is_no_matter(tmp_path):
    state, arguments = published()
    torch.save(state | {"head.weight": torch.full((2,), torch.nan)}, tmp_path / "w.pt")
    incoming = convert("dit", tmp_path / "w.pt", arguments=arguments)
    assert incoming.loaded.unused_tensors == ("head.weight", "pos_embed")


def test_a_type_that_cannot_hold_the_numbers_is_refused(tmp_path, capsys):
    state, arguments = published()
    state[LAYER][0, 0] = 1e6
    torch.save(state, tmp_path / "w.pt")
    pairs = [f"{key}={value}" for key, value in arguments.items()]
    command = ["convert", str(tmp_path / "w.pt"), str(tmp_path / "out"), "--from", "dit"]
    command += ["--arguments", *pairs]
    assert main([*command, "--dtype", "float16"]) == 2
    assert "linear_in.weight; choose --dtype bfloat16" in capsys.readouterr().err
    assert main(command) == 0
    export = ["export", str(tmp_path / "out"), str(tmp_path / "half"), "--dtype", "float16"]
    assert main(export) == 2
    assert "infinite in float16" in capsys.readouterr().err


def folder(path, **settings):
    """A tiny DiT saved by diffusers."""
    torch.manual_seed(0)
    sizes = {"num_attention_heads": 2, "attention_head_dim": 8, "num_layers": 1}
    model = diffusers.DiTTransformer2DModel(**sizes, sample_size=8, num_embeds_ada_norm=3)
    model.save_pretrained(path, **settings)
    return path


def patches(path):
    state = convert("diffusers", path).loaded.model.state_dict()
    return state["denoiser.patches.linear.weight"]


@pytest.mark.parametrize(
    "settings",
    [
        {"variant": "bf16"},
        {"safe_serialization": False},
        {"safe_serialization": False, "max_shard_size": "4KB"},
        {"max_shard_size": "4KB", "variant": "fp16"},
    ],
)
def test_folders_of_diffusers_under_their_other_names(tmp_path, settings):
    expected = patches(folder(tmp_path / "plain"))
    assert torch.equal(patches(folder(tmp_path / "other", **settings)), expected)
    notes = convert("diffusers", tmp_path / "other").notes
    wanted = settings.get("variant")
    assert any(note.startswith(f"variant {wanted}: ") for note in notes) == bool(wanted)


def test_settings_of_a_later_diffusers(tmp_path):
    expected = patches(folder(tmp_path))
    path = tmp_path / "config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps(config | {"rope_theta": None}))
    assert torch.equal(patches(tmp_path), expected)
    path.write_text(json.dumps(config | {"rope_theta": 100}))
    with pytest.raises(ValueError, match="no argument rope_theta=100 here"):
        convert("diffusers", tmp_path)
    path.write_text(json.dumps(config | {"quantization_config": {"quant_method": "gguf"}}))
    with pytest.raises(ValueError, match=r"DiTTransformer2DModel: .*quantised by gguf"):
        convert("diffusers", tmp_path)


def test_names_of_a_compiled_model_in_a_folder(tmp_path):
    expected = patches(folder(tmp_path))
    place = tmp_path / "diffusion_pytorch_model.safetensors"
    state = {f"_orig_mod.{name}": value for name, value in load_file(place).items()}
    save_file(state, place, metadata={"format": "pt"})
    assert torch.equal(patches(tmp_path), expected)
