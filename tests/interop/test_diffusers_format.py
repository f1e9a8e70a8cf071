# SPDX-License-Identifier: Apache-2.0
import json

import diffusers
import pytest
import torch

from pippin.interop.diffusers_config import read_config
from pippin.interop.diffusers_format import from_diffusers, to_diffusers
from pippin.types import Conditions, TextFeatures

SIDE, BATCH = 8, 3
SHAPE = {"num_attention_heads": 4, "attention_head_dim": 8, "num_layers": 3, "sample_size": SIDE}
CASES = {
    "dit": (
        "DiTTransformer2DModel",
        {**SHAPE, "out_channels": 8, "num_embeds_ada_norm": 10, "norm_eps": 1e-6},
    ),
    "pixart": (
        "PixArtTransformer2DModel",
        {**SHAPE, "cross_attention_dim": 32, "caption_channels": 24, "interpolation_scale": 2},
    ),
    "pixart sizes": (
        "PixArtTransformer2DModel",
        {
            **SHAPE,
            "attention_head_dim": 12,
            "cross_attention_dim": 48,
            "caption_channels": 24,
            "use_additional_conditions": True,
        },
    ),
    "sd3": (
        "SD3Transformer2DModel",
        {
            **SHAPE,
            "joint_attention_dim": 24,
            "caption_projection_dim": 32,
            "pooled_projection_dim": 20,
            "pos_embed_max_size": 6,
        },
    ),
    "unet": (
        "UNet2DConditionModel",
        {
            "block_out_channels": (16, 32),
            "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
            "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
            "cross_attention_dim": 24,
            "attention_head_dim": 4,
            "norm_num_groups": 8,
            "sample_size": SIDE,
        },
    ),
    "unet of equal head widths": (
        "UNet2DConditionModel",
        {
            "block_out_channels": (16, 32),
            "down_block_types": ("CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
            "layers_per_block": 1,
            "cross_attention_dim": 24,
            "attention_head_dim": (2, 4),
            "use_linear_projection": True,
            "transformer_layers_per_block": 2,
            "norm_num_groups": 8,
            "sample_size": SIDE,
        },
    ),
}
CASES["sd3 with norms"] = ("SD3Transformer2DModel", CASES["sd3"][1] | {"qk_norm": "rms_norm"})


def random_model(name, arguments):
    """Model of diffusers without zero layers, with a different gain in every norm."""
    torch.manual_seed(0)
    model = getattr(diffusers, name)(**arguments).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    if name == "DiTTransformer2DModel":  # a table for each block, with the values of the first's
        state = model.state_dict()
        for key in list(state):
            if ".norm1.emb." in key:
                state[key] = state[key.replace(key.split(".")[1], "0", 1)]
        model.load_state_dict(state)
        for block in model.transformer_blocks:
            block.norm1.emb.time_proj.downscale_freq_shift = 0  # as the published DiT
    return model


def inputs(name, height=SIDE, width=SIDE):
    torch.manual_seed(1)
    x = torch.randn(BATCH, 16 if name == "SD3Transformer2DModel" else 4, height, width)
    t = torch.tensor([3.0, 500.0, 998.0])
    return x, t, torch.randn(BATCH, 5, 24), torch.randn(BATCH, 20)


def reference_output(model, name, arguments, x, t, tokens, pooled):
    with torch.no_grad():
        if name == "DiTTransformer2DModel":
            return model(x, timestep=t, class_labels=torch.tensor([0, 4, 9])).sample
        if name == "SD3Transformer2DModel":
            return model(x, tokens, pooled, t).sample
        if name == "UNet2DConditionModel":
            return model(x, t, tokens).sample
        shape = {"resolution": None, "aspect_ratio": None}
        if arguments.get("use_additional_conditions"):
            shape = {
                "resolution": torch.tensor([[512.0, 256.0]] * BATCH),
                "aspect_ratio": torch.tensor([[2.0]] * BATCH),
            }
        mask = torch.tensor([[1.0, 1, 1, 0, 0], [1, 1, 1, 1, 1], [1, 0, 0, 0, 0]])
        return model(x, tokens, t, added_cond_kwargs=shape, encoder_attention_mask=mask).sample


def converted_output(loaded, name, arguments, x, t, tokens, pooled):
    if name == "DiTTransformer2DModel":
        conditions = Conditions(label=torch.tensor([0, 4, 9]), control={})
    elif name == "PixArtTransformer2DModel":
        mask = torch.tensor([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1], [1, 0, 0, 0, 0]]).bool()
        control = {}
        if arguments.get("use_additional_conditions"):
            control = {
                "original_size": torch.tensor([[512.0, 256.0]] * BATCH),
                "crop_size": torch.tensor([[512.0, 256.0]] * BATCH),
            }
        conditions = Conditions(text=TextFeatures(tokens=tokens, mask=mask), control=control)
    else:
        conditions = Conditions(text=TextFeatures(tokens=tokens, pooled=pooled), control={})
    with torch.no_grad():
        prediction = loaded.model(x, t, loaded.model.prepare(conditions))
    parts = [part for part in (prediction.mean, prediction.variance) if part is not None]
    return torch.cat(parts, dim=1)


def load_converted(model):
    return from_diffusers(
        read_config(json.loads(model.to_json_string()), None), model.state_dict()
    )


@pytest.mark.parametrize("case", CASES)
def test_computes_what_diffusers_computes(case, record_property):
    name, arguments = CASES[case]
    model = random_model(name, arguments)
    loaded = load_converted(model)
    given = inputs(name)
    expected = reference_output(model, name, arguments, *given)
    difference = (converted_output(loaded, name, arguments, *given) - expected).abs().max().item()
    record_property("difference", difference)
    assert expected.std() > 0.05  # otherwise agreement is meaningless
    assert difference < 1e-5


@pytest.mark.parametrize("case", CASES)
def test_there_and_back_is_exact(case):
    model = random_model(*CASES[case])
    loaded = load_converted(model)
    exported = to_diffusers(loaded.spec, loaded.model.state_dict())
    assert exported.class_name == CASES[case][0]
    state = model.state_dict()
    assert set(exported.tensors) == set(state)
    linear = case == "unet of equal head widths"  # a matrix comes back as a 1 x 1 convolution
    for key, value in exported.tensors.items():
        assert torch.equal(
            value.flatten() if linear else value, state[key].flatten() if linear else state[key]
        ), key
    again = exported.build()
    given = inputs(CASES[case][0])
    if CASES[case][0] == "DiTTransformer2DModel":
        for block in again.transformer_blocks:
            block.norm1.emb.time_proj.downscale_freq_shift = 0
    assert (
        torch.equal(
            reference_output(again, *CASES[case], *given),
            reference_output(model, *CASES[case], *given),
        )
        or linear
    )
