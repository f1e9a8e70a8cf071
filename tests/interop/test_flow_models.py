# SPDX-License-Identifier: Apache-2.0
"""Options of SiT and LightningDiT, and their sampling, against a plain implementation."""

import math
from dataclasses import replace

import pytest
import torch
from plain_flow_transformer import forward, new_weights

from pippin.config import ConfigError
from pippin.denoisers.dit.config import DiTConfig
from pippin.diffusion.rescale import build_schedule
from pippin.diffusion.schedules import make_schedule
from pippin.diffusion.times import build_grid
from pippin.interop.convert import base_recipe, converted_recipe
from pippin.interop.diffusers_config import write_config
from pippin.interop.published_models import configure, load_reference
from pippin.recipes.checks import check_recipe
from pippin.recipes.recipe import latent_shape_of
from pippin.recipes.table import get_recipe
from pippin.rng import normal
from pippin.sampling.config import GuidanceConfig, SamplingConfig
from pippin.sampling.sampler import Sampler
from pippin.types import Conditions

SHAPE = {"hidden_size": 32, "depth": 2, "num_heads": 2, "in_channels": 4, "num_classes": 3}
OPTIONS = {
    "sit": {"sigma": True},
    "published": {"swiglu": True, "rope": True, "rms": True, "patch": 1},
    "plain": {"sigma": True},
    "normed": {"qk_norm": True, "rope": True, "shift": False},
    "all": {"swiglu": True, "rope": True, "rms": True, "qk_norm": True, "shift": False},
}
NAMES = {
    "swiglu": "use_swiglu",
    "rope": "use_rope",
    "rms": "use_rmsnorm",
    "qk_norm": "use_qknorm",
    "sigma": "learn_sigma",
}


def load(case):
    """Converted model, its tensors, and the settings of the plain forward pass."""
    options = OPTIONS[case]
    state = new_weights(**options)
    arguments = SHAPE | {"input_size": 4, "patch_size": options.get("patch", 2)}
    arguments |= {NAMES[name]: value for name, value in options.items() if name in NAMES}
    if not options.get("shift", True):
        arguments["wo_shift"] = True
    source = "sit" if case == "sit" else "lightningdit"
    keys = ("rope", "swiglu", "shift")
    plain = {"heads": 2} | {key: options[key] for key in keys if key in options}
    return load_reference(source, state, **arguments), state, plain


def inputs(height, width, batch=3):
    draws = torch.Generator().manual_seed(1)
    x = torch.randn(batch, 4, height, width, generator=draws)
    return x, torch.tensor([0.02, 0.5, 0.99][:batch]), torch.tensor([0, 2, 3][:batch])


@pytest.mark.parametrize("case", OPTIONS)
@torch.no_grad()
def test_every_option_computes_the_published_function(case):
    reference, state, plain = load(case)
    for height, width in ((4, 4), (4, 8)):
        x, t, y = inputs(height, width)
        result, expected = reference(x, t, y=y), forward(state, x, t, y, **plain)
        assert expected.std() > 0.3
        torch.testing.assert_close(result, expected, atol=1e-5, rtol=0)


def guided(state, x, t, labels, plain, scale, start):
    """Guidance of the first three channels from a time on."""
    parts = [forward(state, x, t, y, **plain) for y in (labels, torch.full_like(labels, 3))]
    conditional, unconditional = parts
    if t[0] >= start:
        mixed = unconditional + scale * (conditional - unconditional)
        conditional = torch.cat([mixed[:, :3], conditional[:, 3:]], dim=1)
    return conditional


@pytest.mark.parametrize(("case", "shift", "start"), [("sit", 1.0, 0.0), ("published", 0.3, 0.1)])
@torch.no_grad()
def test_sampling_follows_the_published_times(case, shift, start):
    """Euler from noise at 0 to data at 1, at times s t / (1 + (s - 1) t)."""
    reference, state, plain = load(case)
    shape, steps, labels = (4, 4, 8), 7, torch.tensor([1, 2])
    x = torch.stack([normal(shape, "sample", seed) for seed in (5, 6)])
    times = torch.linspace(0, 1, steps + 1, dtype=torch.float64)
    times = shift * times / (1 + (shift - 1) * times)
    for now, then in zip(times[:-1].tolist(), times[1:].tolist(), strict=True):
        t = torch.full((2,), now)
        x = x + (then - now) * guided(state, x, t, labels, plain, 2.5, start)
    low = 2 * math.log(start / (1 - start)) if start else -1e9
    config = SamplingConfig(
        solver="euler",
        steps=steps,
        time_shift=1 / shift,
        guidance=GuidanceConfig(
            semantic_scale=2.5, cfg_channels=3, log_snr_interval=(low, 1e9) if start else None
        ),
    )
    sampler = Sampler(reference.model, build_schedule(reference.spec.diffusion), "flow", config)
    result = sampler.latents(Conditions(label=labels, control={}), [5, 6], shape)
    torch.testing.assert_close(result, x, atol=1e-5, rtol=0)


def test_the_weights_know_their_process_and_their_latents():
    sit, lightning = configure("sit", {}), configure("lightningdit", {"use_swiglu": True})
    assert {spec.diffusion.prediction for spec in (sit, lightning)} == {"flow"}
    assert sit.diffusion.time_density.kind == "uniform" and sit.latent_scale == 0.18215
    assert lightning.diffusion.time_density.kind == "logit-normal"
    assert (lightning.latent_channels, lightning.latent_scale) == (32, None)
    assert "4 further channels" in sit.notes[0] and not lightning.notes
    assert base_recipe(sit.denoiser) == "published/sit-xl-256"
    assert base_recipe(lightning.denoiser) == "published/lightningdit-xl-256"


def test_recipes_have_the_published_configurations():
    options = ("use_swiglu", "use_rope", "use_rmsnorm")
    arguments = {"input_size": 16, "patch_size": 1} | dict.fromkeys(options, True)
    for name, spec in (
        ("sit", configure("sit", {})),
        ("lightningdit", configure("lightningdit", arguments)),
    ):
        recipe = get_recipe(f"published/{name}-xl-256")
        diffusion = replace(recipe.diffusion, direction_weight=0.0)  # of training alone
        assert (recipe.denoiser, diffusion) == (spec.denoiser, spec.diffusion)
        assert recipe.diffusion.direction_weight == (name == "lightningdit")
        assert converted_recipe(spec).diffusion == recipe.diffusion
        assert latent_shape_of(recipe) == (spec.latent_channels, *[spec.latent_side] * 2)
        check_recipe(recipe)


def test_what_does_not_fit_is_refused():
    reference, state, _ = load("published")
    x, t, y = inputs(4, 4, batch=2)
    with pytest.raises(ValueError, match="sit has no cfg_interval; lightningdit has"):
        load("sit")[0].guided(x, t, y, 2.0, cfg_interval=True)
    arguments = SHAPE | {"input_size": 4, "patch_size": 1, "use_rope": True, "use_swiglu": True}
    arguments["use_rmsnorm"] = True
    cos = torch.ones(16, 16)  # of no grid
    with pytest.raises(ValueError, match="is not the rotary table of 4 x 4 patches"):
        load_reference("lightningdit", state | {"feat_rope.freqs_cos": cos}, **arguments)
    with pytest.raises(ValueError, match="no argument use_moe"):
        configure("lightningdit", {"use_moe": True})
    with pytest.raises(ConfigError, match=r"denoiser\.norm rms"):
        write_config(reference.spec)
    with pytest.raises(ConfigError, match=r"multiple of 4 for rotary .* got 24 / 4 = 6"):
        DiTConfig(depth=1, width=24, num_heads=4, rotary=True)
    with pytest.raises(ConfigError, match="qk_norm_kind layer has no effect"):
        DiTConfig(depth=1, width=32, num_heads=4, qk_norm_kind="layer")


def test_a_shift_of_times_is_for_rectified_flow():
    config = SamplingConfig(solver="euler", steps=4, time_shift=3.0)
    times = [point.t for point in build_grid(config, make_schedule("flow"))]
    assert times == pytest.approx([1000, 900, 750, 500, 0])
    with pytest.raises(ConfigError, match=r"time_shift 3 is for rectified flow"):
        build_grid(config, make_schedule("ddpm"))
