# SPDX-License-Identifier: Apache-2.0
from dataclasses import replace

import diffusers
import pytest
import torch

from pippin.config import ConfigError
from pippin.diffusion.config import DiffusionConfig
from pippin.diffusion.schedules import make_schedule
from pippin.interop.convert import converted_recipe
from pippin.interop.diffusers_config import (
    BETAS,
    from_scheduler,
    read_config,
    sampling_settings,
    to_scheduler,
    write_config,
)
from pippin.interop.published_models import configure
from pippin.recipes.published import pixart_xl_256


@pytest.mark.parametrize("schedule", BETAS)
@pytest.mark.parametrize("prediction", ["eps", "v", "x0"])
def test_schedulers_come_back(schedule, prediction):
    diffusion = DiffusionConfig(schedule=schedule, prediction=prediction)
    assert from_scheduler(to_scheduler(diffusion)) == diffusion


@pytest.mark.parametrize("schedule", BETAS)
def test_a_written_scheduler_has_our_noise(schedule):
    config = to_scheduler(DiffusionConfig(schedule=schedule))
    reference = diffusers.DDIMScheduler.from_config(config).alphas_cumprod.double()
    t = torch.arange(1000, dtype=torch.float64)
    alphas_cumprod = make_schedule(schedule).alpha(t) ** 2
    torch.testing.assert_close(
        alphas_cumprod, reference, rtol=1e-4, atol=1e-7
    )  # theirs is in fp32


def test_flow_schedulers_come_back():
    config = {"_class_name": "FlowMatchEulerDiscreteScheduler", "shift": 3.0}
    diffusion = from_scheduler(config)
    assert diffusion.schedule == diffusion.prediction == "flow"
    assert from_scheduler(to_scheduler(diffusion)) == diffusion
    assert (
        sampling_settings(config) == ["shift 3.0"]
        and sampling_settings(to_scheduler(diffusion)) == []
    )


@pytest.mark.parametrize(
    "change",
    [
        {"beta_end": 0.5},
        {"num_train_timesteps": 100},
        {"rescale_betas_zero_snr": True},
        {"prediction_type": "score"},
        {"beta_schedule": "sigmoid"},
        {"beta_schedule": None},
        {"snr_shift_scale": 3.0},
        {"_class_name": "EDMEulerScheduler"},
        {"_class_name": "ScoreSdeVeScheduler"},
        {"_class_name": "FlowMatchEulerDiscreteScheduler", "num_train_timesteps": 100},
    ],
)
def test_other_schedulers_are_refused(change):
    config = to_scheduler(DiffusionConfig(schedule="sd")) | change
    with pytest.raises(ValueError, match=r"scheduler .* is not supported, for "):
        from_scheduler(config)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("FluxTransformer2DModel", {}, "FluxTransformer2DModel is not supported; only DiT"),
        ("DiTTransformer2DModel", {"activation_fn": "geglu"}, "activation_fn='geglu'"),
        ("DiTTransformer2DModel", {"out_channels": 5}, "out_channels=5"),
        ("DiTTransformer2DModel", {"colour": 1}, "no argument colour"),
        ("PixArtTransformer2DModel", {"caption_channels": None}, "caption_channels=None"),
        ("SD3Transformer2DModel", {"dual_attention_layers": [0, 1]}, "dual_attention_layers"),
        ("SD3Transformer2DModel", {"qk_norm": "layer"}, "qk_norm='layer'"),
        ("UNet2DConditionModel", {"addition_embed_type": "text_time"}, "addition_embed_type"),
        ("UNet2DConditionModel", {"attention_head_dim": [5, 5, 20, 20]}, "attention_head_dim"),
        ("UNet2DConditionModel", {"attention_head_dim": [5, 10, 20]}, "attention_head_dim"),
        ("UNet2DConditionModel", {"layers_per_block": [2, 2, 2, 3]}, "layers_per_block"),
        ("UNet2DConditionModel", {"block_out_channels": [320, 640]}, "differ in length"),
        ("UNet2DConditionModel", {"norm_num_groups": None}, "norm_num_groups=None must be int"),
        ("DiTTransformer2DModel", {"sample_size": [8, 16]}, "sample_size"),
        ("DiTTransformer2DModel", {"num_layers": 2.0}, "num_layers=2.0 must be int"),
        ("Transformer2DModel", {}, "Transformer2DModel is not supported"),
        (
            "Transformer2DModel",
            {"norm_type": "ada_norm_zero", "num_vector_embeds": 9},
            "num_vector_embeds=9",
        ),
        ("UNet2DConditionModel", {"block_out_channels": [64, 96]}, "block_out_channels"),
        (
            "UNet2DConditionModel",
            {"down_block_types": ["AttnDownBlock2D"] * 4},
            "down_block_types",
        ),
    ],
)
def test_what_ours_cannot_be_is_refused_by_name(name, change, message):
    with pytest.raises(ValueError, match=message):
        read_config({"_class_name": name} | change, None)


def test_pixart_attends_to_a_captions_own_tokens_only():
    diffusers_own = read_config(
        {"_class_name": "PixArtTransformer2DModel", "caption_channels": 4096}, None
    )
    nearest = pixart_xl_256().conditioning.semantic
    for spec in (diffusers_own, configure("pixart", {}), configure("pixart_ms", {})):
        semantic = converted_recipe(spec).conditioning.semantic
        assert semantic.padding == nearest.padding == "mask"


def test_stable_diffusion_two_has_equal_head_widths():
    config = {
        "_class_name": "UNet2DConditionModel",
        "attention_head_dim": [5, 10, 20, 20],
        "cross_attention_dim": 1024,
        "use_linear_projection": True,
    }
    denoiser = read_config(config, None).denoiser
    assert (denoiser.head_width, denoiser.num_heads) == (64, None)


def test_lists_of_equal_values_are_one_value():
    plain = read_config({"_class_name": "UNet2DConditionModel"}, None)
    listed = {
        "layers_per_block": [2] * 4,
        "transformer_layers_per_block": [1] * 4,
        "cross_attention_dim": [1280] * 4,
        "sample_size": [64, 64],
    }
    assert read_config({"_class_name": "UNet2DConditionModel"} | listed, None) == plain


@pytest.mark.parametrize(
    ("norm", "name", "more"),
    [
        ("ada_norm_zero", "DiTTransformer2DModel", {"cross_attention_dim": None}),
        (
            "ada_norm_single",
            "PixArtTransformer2DModel",
            {"caption_channels": 4096, "cross_attention_dim": 1152, "sample_size": 64},
        ),
    ],
)
def test_folders_of_the_former_class(norm, name, more):
    former = {
        "norm_type": norm,
        "num_vector_embeds": None,
        "only_cross_attention": False,
        "double_self_attention": False,
        "use_linear_projection": False,
        "attention_type": "default",
    }
    spec = read_config({"_class_name": "Transformer2DModel"} | former | more, None)
    more = {key: value for key, value in more.items() if value is not None}
    assert spec == read_config({"_class_name": name} | more, None)


def test_mean_velocities_have_no_class_of_diffusers():
    spec = read_config({"_class_name": "DiTTransformer2DModel"}, None)
    write_config(spec)
    interval = replace(spec, conditioning=replace(spec.conditioning, interval=True))
    with pytest.raises(ConfigError, match=r"no model class for conditioning\.interval"):
        write_config(interval)
