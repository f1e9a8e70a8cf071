# SPDX-License-Identifier: Apache-2.0
"""JiT and DDT of other shapes and options, against plain implementations of their facts."""

import pytest
import torch
from plain_jit_ddt import ddt_forward, ddt_weights, jit_forward, jit_weights

from pippin.encoders.config import PIXELS
from pippin.interop.convert import converted_recipe
from pippin.interop.published_models import configure, load_reference
from pippin.recipes.recipe import factor_and_channels

JIT = {
    "published": {},
    "deep": {"depth": 4, "start": 3, "length": 1, "ratio": 3.0},
    "wide": {"width": 48, "heads": 3, "bottleneck": 7, "start": 0},
    "without-context": {"length": 0},
}
DDT = {
    "published": {},
    "deep": {"depth": 5, "encoder_depth": 1, "channels": 3},
    "wide": {"width": 48, "heads": 3, "patch": 1, "classes": 2},
}
TOLERANCE = {"atol": 1e-5, "rtol": 1e-5}
PROCESS = ("flow", "x0", "velocity")


def inputs(channels, height, width, classes):
    draws = torch.Generator().manual_seed(1)
    x = torch.randn(3, channels, height, width, generator=draws)
    return x, torch.tensor([0.0, 0.4, 1.0]), torch.tensor([0, 1, classes])


@pytest.mark.parametrize("case", JIT)
@torch.no_grad()
def test_jit_computes_the_published_function(case):
    sizes = {"width": 32, "heads": 2, "depth": 2, "patch": 4, "ratio": 4.0, "classes": 5}
    sizes |= {"bottleneck": 6, "length": 3, "start": 1} | JIT[case]
    start = sizes.pop("start")
    state = jit_weights(**sizes, side=8)
    reference = load_reference(
        "jit",
        state,
        input_size=8,
        patch_size=sizes["patch"],
        hidden_size=sizes["width"],
        depth=sizes["depth"],
        num_heads=sizes["heads"],
        mlp_ratio=sizes["ratio"],
        num_classes=5,
        bottleneck_dim=sizes["bottleneck"],
        in_context_len=sizes["length"],
        in_context_start=start,
    )
    assert reference.unused_tensors == ("pos_embed",)
    names = ("heads", "depth", "patch", "length")
    options = {name: sizes[name] for name in names} | {"start": start}
    for height, width in ((8, 8), (12, 4)):
        x, t, y = inputs(3, height, width, 5)
        expected = jit_forward(state, x, t, y, **options)
        assert expected.std() > 0.3
        torch.testing.assert_close(reference(x, t, y=y), expected, **TOLERANCE)


@pytest.mark.parametrize("case", DDT)
@torch.no_grad()
def test_ddt_computes_the_published_function(case):
    sizes = {"width": 32, "heads": 2, "depth": 3, "patch": 2, "classes": 5, "channels": 4}
    sizes |= {"encoder_depth": 2} | DDT[case]
    encoder_depth = sizes.pop("encoder_depth")
    state = ddt_weights(**sizes)
    reference = load_reference(
        "ddt",
        state,
        in_channels=sizes["channels"],
        num_groups=sizes["heads"],
        hidden_size=sizes["width"],
        num_blocks=sizes["depth"],
        num_encoder_blocks=encoder_depth,
        patch_size=sizes["patch"],
        num_classes=sizes["classes"],
    )
    assert reference.unused_tensors == ()
    options = {name: sizes[name] for name in ("heads", "depth", "patch")}
    for height, width in ((4, 4), (4, 8), (6, 2)):
        x, t, y = inputs(sizes["channels"], height, width, sizes["classes"])
        expected, state_ = ddt_forward(state, x, t, y, encoder_depth=encoder_depth, **options)
        assert expected.std() > 0.3
        torch.testing.assert_close(reference(x, t, y=y), expected, **TOLERANCE)
        torch.testing.assert_close(reference.state(x, t, y), state_, **TOLERANCE)


def test_a_converted_jit_reads_pixels_and_its_own_process():
    spec = configure("jit", {})
    assert (spec.denoiser.width, spec.denoiser.context_repeats, spec.latent_side) == (
        1024,
        32,
        256,
    )
    recipe = converted_recipe(spec)
    assert recipe.autoencoder.source == PIXELS and factor_and_channels(recipe) == (1, 3)
    diffusion = recipe.diffusion
    assert (diffusion.schedule, diffusion.prediction, diffusion.loss_weight.kind) == PROCESS
    assert recipe.data.resolution == 256 and recipe.sampling.solver == "heun"
    (note,) = configure("jit", {"input_size": 512, "patch_size": 32}).notes
    assert "noise of standard deviation 2" in note


def test_heads_are_asked_for_and_a_context_that_no_block_reads_is_refused():
    with pytest.raises(ValueError, match="hidden_size=768 without num_groups"):
        configure("ddt", {"hidden_size": 768})
    with pytest.raises(ValueError, match="hidden_size=768 without num_heads"):
        configure("jit", {"hidden_size": 768})
    with pytest.raises(ValueError, match="context_start must be below"):
        configure("jit", {"depth": 6})
