# SPDX-License-Identifier: Apache-2.0
"""``pippin convert`` and ``pippin export --to diffusers`` through their files."""

import json
from dataclasses import replace

import diffusers
import pytest
import torch
from tiny_sd3_text import save_encoders

from pippin.cli.convert import parse_arguments
from pippin.cli.main import main
from pippin.conditioning.config import ControlConfig, TextSemantic
from pippin.config import ConfigError
from pippin.denoisers.dit.config import dit
from pippin.denoisers.mdtv2.config import mdtv2
from pippin.denoisers.mmdit.config import mmdit
from pippin.denoisers.pixart.config import pixart
from pippin.denoisers.unet.config import unet
from pippin.encoders.autoencoder import Autoencoder
from pippin.encoders.config import AutoencoderConfig
from pippin.encoders.statistics import LatentStatistics
from pippin.interop.convert import FORMATS, convert, model_spec
from pippin.interop.diffusers_format import to_diffusers
from pippin.model import build_model
from pippin.recipes.table import get_recipe
from pippin.runs.trained import export, load_trained_weights

TINY = {
    "num_attention_heads": 2,
    "attention_head_dim": 8,
    "num_layers": 2,
    "sample_size": 16,
    "num_embeds_ada_norm": 3,
}


def folder_of(path, **scheduler):
    """A pipeline's folder with a tiny DiT, and optionally a scheduler."""
    torch.manual_seed(0)
    model = diffusers.DiTTransformer2DModel(**TINY)
    state = model.state_dict()
    for name in state:
        if ".1.norm1.emb." in name:
            state[name] = state[name.replace(".1.", ".0.", 1)]
    model.load_state_dict(state)
    model.save_pretrained(path / "transformer")
    if scheduler:
        diffusers.DDIMScheduler(**scheduler).save_pretrained(path / "scheduler")
    return model


def test_a_pipeline_becomes_a_model_that_samples(tmp_path, capsys):
    theirs = folder_of(
        tmp_path / "pipe",
        beta_schedule="scaled_linear",
        beta_start=0.00085,
        beta_end=0.012,
        prediction_type="v_prediction",
    )
    out = tmp_path / "ours"
    arguments = ["--from", "diffusers", "--autoencoder", "pippin/openmoji-f4"]
    assert main(["convert", str(tmp_path / "pipe"), str(out), *arguments]) == 0
    trained = load_trained_weights(str(out))
    assert trained.recipe.diffusion.schedule == "sd"
    assert trained.recipe.diffusion.prediction == "v"
    assert (trained.recipe.data.resolution, trained.recipe.data.num_classes) == (64, 3)
    place = ["--out", str(tmp_path / "samples"), "--seeds", "0:3", "--sampling.steps", "2"]
    assert main(["sample", str(out), "--labels", "2", *place]) == 0
    assert len(list((tmp_path / "samples").glob("seed-*-class-2.png"))) == 3
    back = tmp_path / "back"
    assert main(["export", str(out), str(back), "--to", "diffusers-model"]) == 0
    again = diffusers.DiTTransformer2DModel.from_pretrained(back, low_cpu_mem_usage=False)
    for name, value in theirs.state_dict().items():
        assert torch.equal(again.state_dict()[name], value), name
    scheduler = diffusers.DDIMScheduler.from_pretrained(back / "scheduler")
    assert scheduler.config.prediction_type == "v_prediction"
    assert scheduler.config.beta_end == 0.012
    capsys.readouterr()
    assert main(["evaluate", str(out)]) == 2
    assert "has no images" in capsys.readouterr().err


def test_measured_numbers_go_to_diffusers_and_back_with_an_autoencoder(tmp_path, capsys):
    folder_of(tmp_path / "pipe")
    arguments = ["--from", "diffusers", "--autoencoder", "pippin/openmoji-f4"]
    assert main(["convert", str(tmp_path / "pipe"), str(tmp_path / "ours"), *arguments]) == 0
    trained, own = (
        load_trained_weights(str(tmp_path / "ours")),
        Autoencoder.load(AutoencoderConfig()),
    )
    latents = LatentStatistics(
        mean=(1.0, -2.0, 3.0, 0.5), std=(0.5, 2.0, 4.0, 1.5), images=9, autoencoder=own.fingerprint
    )
    autoencoder = replace(trained.recipe.autoencoder, normalisation="measured")
    measured = replace(
        trained, recipe=replace(trained.recipe, autoencoder=autoencoder), latents=latents
    )
    export(measured, tmp_path / "measured")
    capsys.readouterr()
    there = tmp_path / "there"
    assert main(["export", str(tmp_path / "measured"), str(there), "--to", "diffusers-model"]) == 0
    said = capsys.readouterr().out
    assert "mean [1.0, -2.0, 3.0, 0.5] and std [0.5, 2.0, 4.0, 1.5]" in said
    assert f"the autoencoder in {there / 'vae'} applies them" in said
    incoming = convert("diffusers", there)
    affine = Autoencoder.load(incoming.recipe.autoencoder).affine
    assert affine.shift.flatten().tolist() == list(latents.mean)
    assert affine.scale.flatten().tolist() == list(latents.std)


def test_an_autoencoder_that_is_to_be_made_is_said(tmp_path):
    folder_of(tmp_path / "pipe")
    notes = convert("diffusers", tmp_path / "pipe" / "transformer", autoencoder="kl-f4").notes
    assert any("kl-f4 is not a name on the hub but a folder" in note for note in notes)


def test_how_encoders_are_joined_goes_with_their_names(capsys):
    arguments = ["sample", "pippin/openmoji-mmdit-entangled", "--text-combine", "sd3"]
    assert main(arguments) == 2
    assert "--text-combine has no effect without --text-source" in capsys.readouterr().err


def test_no_scheduler_is_said(tmp_path, capsys):
    folder_of(tmp_path / "pipe")
    out = [str(tmp_path / "pipe" / "transformer"), str(tmp_path / "ours"), "--from", "diffusers"]
    assert main(["convert", *out]) == 0
    assert "no scheduler/scheduler_config.json: assuming the process" in capsys.readouterr().out
    assert main(["convert", *out]) == 2
    assert "is not empty" in capsys.readouterr().err


def test_blocks_that_differ_in_what_ours_shares_are_refused(tmp_path):
    torch.manual_seed(0)
    diffusers.DiTTransformer2DModel(**TINY).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"transformer_blocks\.1\.norm1.* differ"):
        convert("diffusers", tmp_path)


def vae(folder, **settings):
    diffusers.AutoencoderKL(
        block_out_channels=(8, 8),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        norm_num_groups=8,
        latent_channels=4,
        **settings,
    ).save_pretrained(folder)
    return str(folder)


def test_an_autoencoder_of_another_scale_is_said(tmp_path, capsys):
    folder_of(tmp_path / "model")
    for name, settings, noted in (
        ("same", {}, False),
        ("other", {"scaling_factor": 0.5}, True),
        ("moved", {"shift_factor": 0.1}, True),
    ):
        source = vae(tmp_path / name, **settings)
        notes = convert("diffusers", tmp_path / "model", autoencoder=source).notes
        assert any("published with latents" in note for note in notes) == noted, name
    config = tmp_path / "same" / "config.json"
    old = {k: v for k, v in json.loads(config.read_text()).items() if k != "scaling_factor"}
    config.write_text(json.dumps(old))
    same = convert("diffusers", tmp_path / "model", autoencoder=str(tmp_path / "same"))
    assert not any("published with latents" in note for note in same.notes)
    ours = convert("diffusers", tmp_path / "model", autoencoder="pippin/openmoji-f4")
    assert any("autoencoder pippin/openmoji-f4 has (moments - [" in note for note in ours.notes)
    vae(tmp_path / "model" / "vae", scaling_factor=0.5)  # the pipeline's own
    own = convert("diffusers", tmp_path / "model")
    assert own.recipe.autoencoder.source.endswith("vae")
    assert not any("published with latents" in note for note in own.notes)


def test_arguments_of_the_command_line():
    pairs = ["depth=12", "x=None", "y=[1, 2]", "z=abc", "w=True", "v=0.5"]
    expected = {"depth": 12, "x": None, "y": [1, 2], "z": "abc", "w": True, "v": 0.5}
    assert parse_arguments(pairs) == expected
    with pytest.raises(ValueError, match="NAME=VALUE; got 'depth'"):
        parse_arguments(["depth"])


def test_formats_of_the_command_line_are_all_formats():
    from typing import get_args

    from pippin.cli.convert import AUTOENCODER, Format

    assert get_args(Format) == (*FORMATS, AUTOENCODER)


NO_CONTROL = ControlConfig(high=(), low=())
REFUSED = {
    "denoiser.kind mdtv2": {"denoiser": mdtv2("tiny", (8, 8))},
    "denoiser.qk_norm": {"denoiser": dit("tiny", qk_norm=True)},
    "denoiser.mlp_ratio 2": {"denoiser": dit("tiny", mlp_ratio=2)},
    "denoiser.cross_attention": {"denoiser": dit("tiny", cross_attention=True)},
    "conditioning.control .crop_corner": {"control": ControlConfig()},
    "conditioning.semantic is label": {"denoiser": pixart("tiny")},
    "denoiser.table_side None": {
        "denoiser": mmdit("tiny"),
        "semantic": TextSemantic(token_features=8, pooled_features=8),
        "rules": {"text": "attention", "pooled": "modulation"},
    },
    "conditioning.rules": {"denoiser": unet("tiny"), "rules": {"label": "modulation"}},
}


@pytest.mark.parametrize("setting", REFUSED)
def test_what_diffusers_cannot_say_is_refused_by_name(setting):
    from dataclasses import replace

    given = {"denoiser": dit("tiny"), "rules": {"label": "modulation"}, "control": NO_CONTROL}
    given |= REFUSED[setting]
    recipe = get_recipe("openmoji/dit-entangled")
    denoiser = given.pop("denoiser")
    conditioning = replace(recipe.conditioning, **given)
    recipe = replace(recipe, denoiser=denoiser, conditioning=conditioning)
    model = build_model(conditioning, denoiser, num_classes=3, latent_channels=4, seed=0)
    tensors = model.state_dict()
    with pytest.raises(ConfigError, match=setting):
        to_diffusers(model_spec(recipe, tensors), tensors)


def test_a_pipeline_of_sd3_is_sampled_with_its_three_encoders(tmp_path, capsys):
    pipe, out = tmp_path / "pipe", tmp_path / "ours"
    save_encoders(pipe)
    torch.manual_seed(0)
    sd3 = {name: TINY[name] for name in ("num_attention_heads", "attention_head_dim")}
    sd3 |= {
        "num_layers": 1,
        "sample_size": 8,
        "in_channels": 4,
        "out_channels": 4,
        "caption_projection_dim": 16,
    }
    sd3 |= {"joint_attention_dim": 32, "pooled_projection_dim": 16, "pos_embed_max_size": 6}
    diffusers.SD3Transformer2DModel(**sd3).save_pretrained(pipe / "transformer")
    diffusers.FlowMatchEulerDiscreteScheduler().save_pretrained(pipe / "scheduler")
    vae(pipe / "vae")
    assert main(["convert", str(pipe), str(out), "--from", "diffusers"]) == 0
    assert "--text-source CLIP-L CLIP-G T5" in capsys.readouterr().out
    encoders = [str(pipe / f"text_encoder{end}") for end in ("", "_2", "_3")]
    command = ["sample", str(out), "--prompts", "red apple", "--seeds", "0:2", "--steps", "2"]
    place = ["--out", str(tmp_path / "samples"), "--text-source", *encoders]
    assert main([*command, *place]) == 0
    assert len(list((tmp_path / "samples").glob("seed-*.png"))) == 2
    capsys.readouterr()
    assert main([*command, *place[:3], encoders[0]]) == 2
    assert "text.combine sd3 needs three encoders" in capsys.readouterr().err
    assert main([*command, *place, "--text-combine", "features"]) == 2
    assert "token_features is 32; text.source" in " ".join(capsys.readouterr().err.split())
