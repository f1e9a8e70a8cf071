# SPDX-License-Identifier: Apache-2.0
"""Converted models against outputs of the published implementations.

The golden files hold random weights under the published names, inputs and outputs on CPU in fp32.
Absolute tolerance 1e-5, for outputs of about unit size.
"""

import json
import math
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from pippin.interop.published_models import configure, load_reference
from pippin.types import Prediction

GOLDEN = Path(__file__).parents[1] / "golden"
TOLERANCE = 1e-5
FILES = {
    "dit": "dit",
    "sit": "sit",
    "lightningdit": "lightningdit",
    "mdtv2": "mdtv2",
    "pixart": "pixart",
    "pixart_ms": "pixart_ms",
    "mmdit_sd3": "mmdit_sd3",
    "mmdit_sd3_qknorm": "mmdit_sd3",
    "ldm_unet": "ldm_unet",
    "jit": "jit",
    "ddt": "ddt",
}
VELOCITIES = ("velocity_cfg", "velocity_cfg_edge")
"""Outputs divided by as little as 0.05: their tolerance is relative to their size."""
UNPLACED = {
    "dit": {"pos_embed"},
    "sit": {"pos_embed"},
    "lightningdit": {"pos_embed", "feat_rope.freqs_cos", "feat_rope.freqs_sin"},
    "jit": {"pos_embed"},
    "pixart": {"pos_embed"},
    "pixart_ms": {"pos_embed"},  # the published class does not read it either
}


def read(name):
    """Weights, inputs, outputs and constructor arguments of a golden file."""
    with safe_open(GOLDEN / f"{name}.safetensors", framework="pt") as file:
        facts = json.loads(file.metadata()["golden"])
        tensors = {key: file.get_tensor(key).clone() for key in file.keys()}  # noqa: SIM118
    parts = {"weights": {}, "inputs": {}, "outputs": {}}
    for key, value in tensors.items():
        part, _, rest = key.partition(".")
        parts[part][rest] = value
    overrides = {k: v for k, v in facts["hard_coded_overrides"].items() if k != "original_rule"}
    arguments = {k: v for k, v in facts["constructor_arguments"].items() if k not in overrides}
    return *parts.values(), arguments | overrides


def load(name):
    weights, inputs, outputs, arguments = read(name)
    return load_reference(FILES[name], weights, **arguments), inputs, outputs


def calls(name, inputs):
    """The keyword arguments of each published call, by the output's name."""
    if name == "mdtv2":
        plain = {key: inputs[key] for key in ("x", "t", "y")}
        draws = {key: inputs[key] for key in ("mask_noise", "mask_ratio_draw")}
        return {"sample": plain, "sample_masked": plain | draws | {"enable_mask": True}}
    if name.startswith("pixart"):
        bare = {key: value for key, value in inputs.items() if key != "mask"}
        return {"sample": inputs, "sample_no_mask": bare}
    if name == "ldm_unet":
        common = {key: inputs[key] for key in ("x", "timesteps")}
        return {
            "sample": common | {"context": inputs["context"]},
            "sample_single": common | {"context": inputs["context_single"]},
        }
    return {"sample": {key: inputs[key] for key in ("x", "t", "y", "context") if key in inputs}}


def guided_calls(inputs):
    """The keyword arguments of each published guided call, by the output's name."""
    if "y_guided" in inputs:
        names = ("x", "t", "y_guided", "cfg_scale", "cfg_interval", "t_eps")
        plain = {key: inputs[key] for key in names if key in inputs}
        if "t_edge" not in inputs:
            return {"sample_cfg": plain}
        return dict(zip(VELOCITIES, (plain, plain | {"t": inputs["t_edge"]}), strict=True))
    if "x_cfg" not in inputs:
        return {}
    plain = {key: inputs[f"{key}_cfg"] for key in ("x", "t", "y")}
    plain["cfg_scale"] = inputs["cfg_scale"]
    if "cfg_interval_start" not in inputs:
        return {"sample_cfg": plain}
    interval = plain | {"cfg_interval": True, "cfg_interval_start": inputs["cfg_interval_start"]}
    return {
        "sample_cfg": plain,
        "sample_cfg_interval_above": interval,
        "sample_cfg_interval_below": interval | {"t": inputs["t_cfg_below"]},
    }


@pytest.mark.parametrize("name", FILES)
def test_published_outputs_are_reproduced(name, record_property):
    reference, inputs, outputs = load(name)
    plain, guided = calls(name, inputs), guided_calls(inputs)
    assert {*plain, *guided} == set(outputs) - {"state", "sample_reuse"}
    for output, keywords in (plain | guided).items():
        with torch.no_grad():
            result = (reference.guided if output in guided else reference)(**keywords)
        difference = (result - outputs[output]).abs().max().item()
        size = outputs[output].abs().max().item() if output in VELOCITIES else 1.0
        record_property(output, difference)
        assert difference <= TOLERANCE * size


@pytest.mark.parametrize("name", FILES)
def test_every_tensor_of_the_source_is_placed_or_listed(name):
    reference, _, _ = load(name)
    unused_tensors = set(reference.unused_tensors)
    computed = {key for key in unused_tensors if key.endswith("relative_position_index")}
    assert unused_tensors - computed == UNPLACED.get(name, set())


def test_random_numbers_of_a_masked_pass_follow_the_latents_to_their_device(monkeypatch):
    """Denoisers expect them there."""
    reference, inputs, _ = load("mdtv2")
    keywords = calls("mdtv2", inputs)["sample_masked"]
    x, devices = keywords["x"].to("meta"), []

    def forward(x_t, t, prepared, masking):
        devices.append(masking.order.device.type)
        return Prediction(mean=x_t, aux=Prediction(mean=x_t))

    monkeypatch.setattr(reference.model, "forward", forward)
    reference(**keywords | {"x": x})
    assert keywords["mask_noise"].device.type == "cpu" and devices == ["meta"]


def test_the_state_of_ddt_serves_other_latents():
    reference, inputs, outputs = load("ddt")
    with torch.no_grad():
        state = reference.state(*(inputs[key] for key in ("x", "t", "y")))
        reused = reference(inputs["x_reuse"], inputs["t_reuse"], y=inputs["y"], s=state)
    torch.testing.assert_close(state, outputs["state"], atol=TOLERANCE, rtol=0)
    torch.testing.assert_close(reused, outputs["sample_reuse"], atol=TOLERANCE, rtol=0)
    with pytest.raises(ValueError, match="jit has no encoder with a state; ddt has one"):
        load("jit")[0].state(torch.zeros(1, 3, 32, 32), torch.zeros(1), torch.zeros(1).long())


@pytest.mark.parametrize("name", ["dit", "mdtv2"])
def test_guided_call_by_its_own_formula(name):
    reference, inputs, _ = load(name)
    x = inputs["x"][:1].expand(4, -1, -1, -1).clone()
    x[2:] = 7.0  # the second half is not read
    t = torch.tensor([20.0, 900.0, 20.0, 900.0])
    y = torch.tensor([1, 2, 10, 10])
    with torch.no_grad():
        result = reference.guided(x=x, t=t, y=y, cfg_scale=torch.tensor(3.0))
        both = reference(x[:2].repeat(2, 1, 1, 1), t, y=y)
    conditional, unconditional = both[:2], both[2:]
    scale = torch.full((2,), 3.0)
    if name == "mdtv2":
        scale = torch.tensor(
            [1 + (1 - math.cos(math.pi * (1 - u / 1000) ** 4)) for u in (20, 900)]
        )
    expected = unconditional + scale[:, None, None, None] * (conditional - unconditional)
    torch.testing.assert_close(result[:2, :3], expected[:, :3], atol=1e-5, rtol=0)
    assert torch.equal(result[:2, :3], result[2:, :3])
    assert torch.equal(result[:, 3:], both[:, 3:])


def test_the_masked_pass_differs_and_a_model_without_it_agrees():
    weights, inputs, outputs, arguments = read("mdtv2")
    plain = load_reference("mdtv2", weights, **(arguments | {"mask_ratio": None}))
    with torch.no_grad():
        result = plain(inputs["x"], inputs["t"], y=inputs["y"])
    torch.testing.assert_close(result, outputs["sample"], atol=TOLERANCE, rtol=0)
    assert {"mask_token"} <= set(plain.unused_tensors)
    assert any(name.startswith("sideblocks.0") for name in plain.unused_tensors)
    assert (outputs["sample"] - outputs["sample_masked"]).abs().max() > 0.01


def test_what_belongs_to_the_weights_comes_with_them():
    reference, _, _ = load("dit")
    assert reference.spec.diffusion.schedule == "ddpm"
    assert reference.spec.denoiser.learn_variance
    assert reference.spec.latent_scale == 0.18215
    reference, _, _ = load("mmdit_sd3")
    assert reference.spec.diffusion.prediction == "flow"
    assert reference.spec.latent_shift == 0.0609
    assert reference.zero_filled == (
        "conditioner.text_tokens.null",
        "conditioner.text_vector.null",
    )


def test_the_unets_schedule_follows_from_its_latents():
    """The f4 models of latent diffusion would be sampled wrongly with Stable Diffusion's."""
    shape = {"model_channels": 32, "context_dim": 8, "num_heads": 4}
    f4 = configure("ldm_unet", shape | {"in_channels": 3, "out_channels": 3})
    sd = configure("ldm_unet", shape | {"in_channels": 4, "out_channels": 4})
    assert (f4.diffusion.schedule, f4.latent_scale) == ("ldm-f4", 1.0)
    assert (sd.diffusion.schedule, sd.latent_scale) == ("sd", 0.18215)


@pytest.mark.parametrize(
    ("name", "argument", "value"),
    [
        ("pixart", "use_rel_pos", True),
        ("pixart", "window_size", 7),
        ("mmdit_sd3", "swiglu", True),
        ("mmdit_sd3", "qk_norm", "ln"),
        ("ldm_unet", "resblock_updown", True),
        ("dit", "registers", 4),
        ("jit", "registers", 4),
        ("ddt", "mlp_ratio", 2.0),
    ],
)
def test_unsupported_values_are_refused_by_name(name, argument, value):
    weights, _, _, arguments = read(name)
    with pytest.raises(ValueError, match=argument):
        load_reference(FILES[name], weights, **(arguments | {argument: value}))


def test_weights_of_another_shape_or_source_are_refused():
    weights, _, _, arguments = read("dit")
    with pytest.raises(ValueError, match=r"x_embedder\.proj\.weight has shape"):
        load_reference("dit", weights, **(arguments | {"hidden_size": 32}))
    with pytest.raises(ValueError, match="lack"):
        load_reference("dit", weights, **(arguments | {"depth": 4}))
    with pytest.raises(ValueError, match="no source 'DiT'"):
        load_reference("DiT", weights, **arguments)
    moved = weights | {"pos_embed": weights["pos_embed"] + 0.1}
    with pytest.raises(ValueError, match="sine-cosine table"):
        load_reference("dit", moved, **arguments)


@pytest.mark.parametrize("name", ["dit", "mdtv2", "pixart", "jit"])
def test_weights_of_another_side_are_refused(name):
    weights, _, _, arguments = read(name)
    side = arguments["input_size"]
    with pytest.raises(ValueError, match=rf"input_size is {2 * side}: give input_size={side}"):
        load_reference(FILES[name], weights, **(arguments | {"input_size": 2 * side}))


@pytest.mark.parametrize("patch", [1, 4])
def test_other_shapes_convert_as_well(patch):
    """Another width, depth, patch size, head count, MLP ratio, and a grid that is not square."""
    width, depth, ratio = 48, 2, 3.0
    draws = torch.Generator().manual_seed(0)

    def new(*shape):
        return 0.1 * torch.randn(*shape, generator=draws)

    state = {
        "x_embedder.proj.weight": new(width, 3, patch, patch),
        "x_embedder.proj.bias": new(width),
        "y_embedder.embedding_table.weight": new(5, width),
    }
    sizes = {"t_embedder.mlp.0": (width, 256), "t_embedder.mlp.2": (width, width)}
    for i in range(depth):
        sizes |= {
            f"blocks.{i}.attn.qkv": (3 * width, width),
            f"blocks.{i}.attn.proj": (width, width),
            f"blocks.{i}.mlp.fc1": (int(ratio * width), width),
            f"blocks.{i}.mlp.fc2": (width, int(ratio * width)),
            f"blocks.{i}.adaLN_modulation.1": (6 * width, width),
        }
    sizes |= {
        "final_layer.adaLN_modulation.1": (2 * width, width),
        "final_layer.linear": (3 * patch**2, width),
    }
    for name, shape in sizes.items():
        state |= {f"{name}.weight": new(*shape), f"{name}.bias": new(shape[0])}
    reference = load_reference(
        "dit",
        state,
        input_size=8,
        patch_size=patch,
        in_channels=3,
        hidden_size=width,
        depth=depth,
        num_heads=3,
        mlp_ratio=ratio,
        class_dropout_prob=0.0,  # no null row in the table
        num_classes=5,
        learn_sigma=False,
    )
    with torch.no_grad():
        out = reference(new(2, 3, 8, 16), torch.tensor([1, 999]), y=torch.tensor([0, 4]))
    qkv = reference.model.denoiser.blocks[1].attention.project_in.qkv
    assert torch.equal(qkv.weight, state["blocks.1.attn.qkv.weight"])
    table = reference.model.conditioner.label_vector.weight
    assert torch.equal(table[:5], state["y_embedder.embedding_table.weight"])
    assert not table[5].any()  # the null class, which the source lacks
    assert out.shape == (2, 3, 8, 16)
    assert out.isfinite().all()
    assert out.std() > 0.001
