# SPDX-License-Identifier: Apache-2.0
import argparse

import diffusers
import pytest
import torch

from pippin.denoisers.dit.published import dit_table
from pippin.denoisers.weights.tensor_table import shapes_of
from pippin.diffusion.config import DiffusionConfig, LogitNormalTime
from pippin.interop.convert import convert
from pippin.interop.diffusers_config import from_scheduler
from pippin.interop.diffusion_process import resolve_process
from pippin.interop.published_models import configure
from pippin.model import build_model

ARGUMENTS = {"hidden_size": 32, "depth": 1, "num_heads": 2, "num_classes": 4}
DDPM = DiffusionConfig(schedule="ddpm")
FLOW = DiffusionConfig(schedule="flow", prediction="flow", time_density=LogitNormalTime())


def state(arguments=ARGUMENTS):
    """Tensors under the names of the published DiT."""
    spec = configure("dit", arguments)
    model = build_model(spec.conditioning, spec.denoiser, num_classes=4, latent_channels=4, seed=0)
    table = dit_table(spec.denoiser, shapes_of(model))
    return {entry.sources[0]: model.state_dict()[entry.target] for entry in table}


def read(tmp_path, content, name="weights.pt", **more):
    torch.save(content, tmp_path / name)
    return convert("dit", tmp_path / name, arguments=ARGUMENTS, **more)


def test_a_plain_file_is_taken_as_published_and_that_is_said(tmp_path):
    converted = read(tmp_path, state())
    assert converted.loaded.spec.diffusion == converted.recipe.diffusion == DDPM
    (note,) = (note for note in converted.notes if "does not say its process" in note)
    assert "assuming schedule ddpm, prediction eps" in note and "SiT and REPA" in note
    assert "--schedule and --prediction" in note


PROJECTORS = {"projectors.0.0.weight": torch.zeros(8, 32)}
SIGNS = {
    "heads of REPA": ({"ema": state() | PROJECTORS}, "w.pt", r"heads, such as projectors\.0"),
    "settings of SiT": (
        {"ema": state(), "args": argparse.Namespace(path_type="Linear", prediction="velocity")},
        "w.pt",
        "settings have path_type Linear",
    ),
    "settings in a section": (
        {"model": state(), "config": {"transport": {"path_type": "GVP"}}},
        "w.pt",
        "path_type GVP",
    ),
    "the name of the file": (state(), "SiT-XL-2-256x256.pt", "the file name contains SiT"),
    "another name": (state(), "imagenet_repa_400k.pt", "the file name contains repa"),
}


@pytest.mark.parametrize("case", SIGNS)
def test_signs_of_flow_matching_are_refused_unless_ddpm_is_stated(tmp_path, case):
    content, name, sign = SIGNS[case]
    with pytest.raises(ValueError, match=f"looks like weights of SiT or REPA.*{sign}"):
        read(tmp_path, content, name)
    with pytest.raises(ValueError, match="which no model of pippin computes"):
        read(tmp_path, content, name, schedule="flow")  # their flow matching differs from pippin's
    converted = read(tmp_path, content, name, schedule="ddpm", prediction="eps")
    assert converted.recipe.diffusion == DDPM
    assert any("there are signs of another" in note for note in converted.notes)


@pytest.mark.parametrize("name", ["deposit.pt", "transit-12.pt", "repair.pt", "visit.pt"])
def test_words_that_contain_the_names_are_no_signs(tmp_path, name):
    assert read(tmp_path, state(), name).recipe.diffusion == DDPM


@pytest.mark.parametrize(
    ("settings", "hint"),
    [
        ({"parameterization": "v"}, "v"),
        ({"predict_xstart": True}, "x0"),
        ({"model": {"prediction_type": "v_prediction"}}, "v"),
    ],
)
def test_settings_that_say_another_prediction_are_asked_about(tmp_path, settings, hint):
    content = {"state_dict": state(), "hyper_parameters": settings}
    with pytest.raises(ValueError, match=f"prediction {hint}, .*--prediction {hint}, or "):
        read(tmp_path, content)
    assert read(tmp_path, content, prediction=hint).recipe.diffusion.prediction == hint
    assert read(tmp_path, content, prediction="eps").recipe.diffusion == DDPM


def test_a_stated_process_is_that_of_the_recipe(tmp_path):
    converted = read(tmp_path, state(), schedule="cosine", prediction="v")
    assert converted.recipe.diffusion == DiffusionConfig(schedule="cosine", prediction="v")
    assert converted.loaded.spec.diffusion == converted.recipe.diffusion
    assert not any("does not say its process" in note for note in converted.notes)


def test_flow_matching_has_no_learned_variance(tmp_path):
    with pytest.raises(ValueError, match="learn_variance True needs a schedule of 1000 indices"):
        read(tmp_path, state(), schedule="flow")
    plain = ARGUMENTS | {"learn_sigma": False}
    torch.save(state(plain), tmp_path / "plain.pt")
    converted = convert("dit", tmp_path / "plain.pt", arguments=plain, schedule="flow")
    assert converted.recipe.diffusion == FLOW and converted.recipe.sampling.solver == "euler"


def test_halves_of_a_process_are_completed_or_refused():
    assert resolve_process(DDPM) is DDPM
    assert resolve_process(DDPM, prediction="flow") == resolve_process(DDPM, "flow") == FLOW
    assert resolve_process(DDPM, "sd") == DiffusionConfig(schedule="sd")
    assert resolve_process(FLOW, "sd", "v") == DiffusionConfig(schedule="sd", prediction="v")
    for published, given in ((FLOW, ("sd", None)), (FLOW, (None, "v")), (DDPM, ("flow", "eps"))):
        with pytest.raises(ValueError, match="do not go together"):
            resolve_process(published, *given)


def test_stable_diffusion_two_is_asked_about():
    yaml = {"in_channels": 4, "out_channels": 4, "context_dim": 1024, "num_head_channels": 64}
    notes = configure("ldm_unet", yaml | {"use_spatial_transformer": True}).notes
    assert any("--prediction v" in note for note in notes)


@pytest.mark.parametrize("setting", [{"invert_sigmas": True}, {"timestep_type": "continuous"}])
def test_schedulers_whose_times_run_otherwise_are_refused(setting):
    config = {"_class_name": "FlowMatchEulerDiscreteScheduler"} | setting
    with pytest.raises(ValueError, match=f"is not supported, for {next(iter(setting))}"):
        from_scheduler(config)


def test_a_folder_of_diffusers_without_a_scheduler_takes_what_is_stated(tmp_path):
    sizes = {"num_attention_heads": 2, "attention_head_dim": 8, "num_layers": 1}
    model = diffusers.DiTTransformer2DModel(**sizes, sample_size=8, num_embeds_ada_norm=3)
    model.save_pretrained(tmp_path / "transformer")
    converted = convert("diffusers", tmp_path, prediction="v")
    assert converted.recipe.diffusion == DiffusionConfig(schedule="ddpm", prediction="v")
    assert not any("scheduler_config" in note for note in converted.notes)
    diffusers.DDIMScheduler().save_pretrained(tmp_path / "scheduler")
    with pytest.raises(ValueError, match=r"prediction eps; given are .*prediction v"):
        convert("diffusers", tmp_path, prediction="v")
    assert convert("diffusers", tmp_path, prediction="eps").recipe.diffusion.prediction == "eps"


def read_sit(tmp_path, content, name="weights.pt", **more):
    torch.save(content, tmp_path / name)
    return convert("sit", tmp_path / name, arguments=ARGUMENTS, **more)


AS_PUBLISHED = argparse.Namespace(path_type="Linear", prediction="velocity", train_eps=None)


def test_a_checkpoint_of_sit_is_flow_matching_with_its_averaged_weights(tmp_path):
    weights = state()
    raw = {name: value + 1 for name, value in weights.items()}
    content = {"model": raw, "ema": weights, "opt": {}, "args": AS_PUBLISHED}
    converted = read_sit(tmp_path, content, "SiT-XL-2-256x256.pt")
    assert converted.loaded.weights == "ema"
    recipe = converted.recipe
    assert (recipe.diffusion.schedule, recipe.diffusion.prediction) == ("flow", "flow")
    assert recipe.denoiser.time_input == "data" and not recipe.denoiser.learn_variance
    assert recipe.sampling.guidance.cfg_channels == 3
    assert not any("assuming" in note for note in converted.notes)
    # 2 x 2 patches of 8 channels, the last 4 of which are discarded
    bias = weights["final_layer.linear.bias"].reshape(4, 8)[:, :4].flatten()
    assert torch.equal(converted.loaded.model.denoiser.output.linear.bias, -bias)
    plain = read_sit(tmp_path, weights)
    assert any("assuming the straight path and the velocity" in note for note in plain.notes)


OTHERS = {
    "heads of REPA": ({"ema": state() | PROJECTORS}, "w.pt", r"REPA \(projectors\.0"),
    "settings of REPA": ({"ema": state(), "args": {"enc_type": "dinov2"}}, "w.pt", "enc_type"),
    "the name of REPA": (state(), "repa-800ep.pt", "the file name contains repa"),
    "another path": (
        {"ema": state(), "args": argparse.Namespace(path_type="GVP")},
        "w.pt",
        "path_type GVP; only path_type linear is supported",
    ),
    "another prediction": (
        {"ema": state(), "args": argparse.Namespace(prediction="score")},
        "w.pt",
        "prediction score; only prediction velocity is supported",
    ),
}


@pytest.mark.parametrize("case", OTHERS)
def test_other_flows_under_the_names_of_sit_are_refused(tmp_path, case):
    content, name, sign = OTHERS[case]
    with pytest.raises(ValueError, match=sign):
        read_sit(tmp_path, content, name)


def test_a_discrete_process_of_sit_is_refused(tmp_path):
    with pytest.raises(ValueError, match="sit is flow matching: leave --schedule"):
        read_sit(tmp_path, state(), schedule="ddpm", prediction="eps")
