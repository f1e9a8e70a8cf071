# SPDX-License-Identifier: Apache-2.0
import diffusers
import pytest
import torch

from pippin.diffusion.config import DiffusionConfig
from pippin.diffusion.schedules import make_schedule
from pippin.interop.diffusers_config import read_config
from pippin.interop.diffusers_schedulers import BETAS, of_scheduler, to_scheduler


@pytest.mark.parametrize("schedule", BETAS)
@pytest.mark.parametrize("prediction", ["eps", "v", "x0"])
def test_schedulers_come_back(schedule, prediction):
    diffusion = DiffusionConfig(schedule=schedule, prediction=prediction)
    assert of_scheduler(to_scheduler(diffusion)) == diffusion


@pytest.mark.parametrize("schedule", BETAS)
def test_a_written_scheduler_has_our_noise(schedule):
    config = to_scheduler(DiffusionConfig(schedule=schedule))
    theirs = diffusers.DDIMScheduler.from_config(config).alphas_cumprod.double()
    t = torch.arange(1000, dtype=torch.float64)
    ours = make_schedule(schedule).alpha(t) ** 2
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-7)  # theirs is in fp32


def test_flow_schedulers_come_back():
    diffusion = of_scheduler({"_class_name": "FlowMatchEulerDiscreteScheduler", "shift": 3.0})
    assert diffusion.schedule == diffusion.prediction == "flow"
    assert of_scheduler(to_scheduler(diffusion)) == diffusion


@pytest.mark.parametrize(
    "change",
    [
        {"beta_end": 0.5},
        {"num_train_timesteps": 100},
        {"rescale_betas_zero_snr": True},
        {"prediction_type": "score"},
        {"beta_schedule": "sigmoid"},
    ],
)
def test_other_schedulers_are_refused(change):
    config = to_scheduler(DiffusionConfig(schedule="sd")) | change
    with pytest.raises(ValueError, match="scheduler DDIMScheduler is not supported"):
        of_scheduler(config)


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


def test_stable_diffusion_two_has_equal_head_widths():
    config = {
        "_class_name": "UNet2DConditionModel",
        "attention_head_dim": [5, 10, 20, 20],
        "cross_attention_dim": 1024,
        "use_linear_projection": True,
    }
    denoiser = read_config(config, None).denoiser
    assert (denoiser.head_width, denoiser.num_heads) == (64, None)
