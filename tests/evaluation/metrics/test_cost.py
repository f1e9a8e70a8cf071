# SPDX-License-Identifier: Apache-2.0
"""FLOPs of a DiT against the closed form, and published counts."""

from dataclasses import replace

import pytest

from pippin.conditioning.config import ConditioningConfig, ControlConfig, TextSemantic
from pippin.denoisers.ddt.config import ddt
from pippin.denoisers.dit.config import DiTConfig, dit
from pippin.denoisers.mdtv2.config import mdtv2
from pippin.denoisers.mmdit.config import mmdit
from pippin.denoisers.unet.config import unet
from pippin.diffusion.config import MeanFlowConfig
from pippin.evaluation.metrics.cost import (
    denoiser_flops,
    derivative_flops,
    meta_model,
    training_flops,
)
from pippin.planning.plan import _training_flops
from pippin.recipes.table import get_recipe
from pippin.training.masking.config import NO_MASKING

CONDITIONING = ConditioningConfig(
    rules={"label": "modulation"}, control=ControlConfig(high=(), low=())
)
CLIP = ConditioningConfig(
    semantic=TextSemantic(token_features=768, projection="none"),
    rules={"text": "attention"},
    control=ControlConfig(high=(), low=()),
)
JIT = get_recipe("published/jit-b-256")


def macs(config, side, channels):
    """Per image: (of layers whose input needs no gradient, of the others)."""
    n, d = (side // config.patch_size) ** 2, config.width
    numbers = config.patch_size**2 * channels
    block = n * d * d * (4 + 2 * config.mlp_ratio) + 2 * n * n * d + 6 * d * d
    return n * numbers * d, config.depth * block + n * d * numbers + 2 * d * d


@pytest.mark.parametrize(
    "config",
    [
        dit("S"),
        DiTConfig(depth=2, width=32, num_heads=4, patch_size=4),
        DiTConfig(depth=2, width=48, num_heads=4, norm="rms", mlp="swiglu", rotary=True),
    ],
)
def test_flops_of_a_dit_are_the_closed_form(config):
    model = meta_model(CONDITIONING, config, 10, 4)
    first, rest = macs(config, 32, 4)
    assert denoiser_flops(model, (4, 32, 32)) == 2 * (first + rest)
    # a layer's backward is two products of the size of its forward; the first has one
    assert denoiser_flops(model, (4, 32, 32), backward=True) == 2 * (2 * first + 3 * rest)


def test_the_published_size():
    flops = denoiser_flops(meta_model(CONDITIONING, dit("XL"), 1000, 4), (4, 32, 32))
    assert flops / 2 == pytest.approx(118.6e9, rel=0.005)  # Peebles & Xie 2023, table 1


@pytest.mark.parametrize(
    ("denoiser", "conditioning", "shape", "parameters", "giga"),
    [
        # counts and MACs of the published code, attention included (docs/reference/denoisers.md)
        (dit("S", learn_variance=True), CONDITIONING, (4, 32, 32), 32.87, 6.06),
        (dit("B", learn_variance=True), CONDITIONING, (4, 32, 32), 130.32, 23.01),
        (dit("L", learn_variance=True), CONDITIONING, (4, 32, 32), 457.84, 80.71),
        (dit("XL", learn_variance=True), CONDITIONING, (4, 32, 32), 674.83, 118.64),
        (dit("XL", learn_variance=True), CONDITIONING, (4, 64, 64), 674.83, 524.60),
        # SwiGLU's three layers of 2/3 the width cost as much as two (Yao et al. 2025: 675 M)
        (
            get_recipe("published/lightningdit-xl-256").denoiser,
            CONDITIONING,
            (32, 16, 16),
            674.96,
            118.6,
        ),
        (JIT.denoiser, JIT.conditioning, (3, 256, 256), 131.89, 25.22),
        (ddt("XL"), CONDITIONING, (4, 32, 32), 674.65, 131.48),
        (mdtv2("XL", (16, 16), learn_variance=True), CONDITIONING, (4, 32, 32), 742.26, 129.49),
        (
            mdtv2("XL", (16, 16), learn_variance=True, mask_ratio=None),
            CONDITIONING,
            (4, 32, 32),
            718.34,
            129.49,
        ),
        (
            get_recipe("published/pixart-xl-256").denoiser,
            get_recipe("published/pixart-xl-256").conditioning,
            (4, 32, 32),
            611.35,
            148.33,
        ),
        (
            unet("LDM-4"),
            get_recipe("published/ldm-4-imagenet-256").conditioning,
            (3, 64, 64),
            401.43,
            104.23,
        ),
        (unet("SD1"), CLIP, (4, 64, 64), 859.52, 401.64),
    ],
)
def test_published_counts(denoiser, conditioning, shape, parameters, giga):
    model = meta_model(conditioning, denoiser, 1000, shape[0])
    count = sum(p.numel() for p in model.parameters())
    assert count / 1e6 == pytest.approx(parameters, rel=0.005)
    assert denoiser_flops(model, shape) / 2e9 == pytest.approx(giga, rel=0.005)


def parameters_of(denoiser, conditioning):
    """Parameters of the denoiser."""
    model = meta_model(conditioning, denoiser, 10, 4)
    return sum(p.numel() for p in model.denoiser.parameters())


def macs_of(denoiser, conditioning):
    """MACs of the denoiser."""
    return denoiser_flops(meta_model(conditioning, denoiser, 10, 4), (4, 32, 32)) // 2


@pytest.mark.parametrize("size", ["S", "B", "L", "XL"])
def test_matched_sizes_are_as_near_as_whole_blocks_come(size):
    by_class = replace(CONDITIONING, rules={"label": "attention"})
    tokens = TextSemantic(token_features=64, num_tokens=154)
    by_text = replace(CONDITIONING, semantic=tokens, rules={"text": "attention"})
    macs = along_depth(dit(size), CONDITIONING, macs_of)(dit(size).depth)
    parameters = along_depth(dit(size), CONDITIONING, parameters_of)(dit(size).depth)
    for match, conditioning, cost, wanted in (
        ("parameters", by_class, parameters_of, parameters),
        ("flops", by_text, macs_of, macs),
    ):
        of_depth = along_depth(mmdit(size), conditioning, cost)
        depth = mmdit(size, match).depth
        assert of_depth(depth) == pytest.approx(wanted, rel=0.07)
        nearest = min(range(1, 30), key=lambda blocks: abs(of_depth(blocks) - wanted))
        assert depth == nearest
    of_depth = along_depth(mmdit(size), by_class, macs_of)
    assert of_depth(mmdit(size).depth) == pytest.approx(macs, rel=0.02)  # few tokens cost little


def along_depth(config, conditioning, cost):
    """Costs as a function of depth, which is linear; from two shallow models."""
    two, three = (cost(replace(config, depth=d), conditioning) for d in (2, 3))
    return lambda depth: two + (depth - 2) * (three - two)


@pytest.mark.parametrize("size", ["S", "B", "L", "XL"])
def test_unet_sizes_are_as_near_to_dit_as_groups_of_channels_come(size):
    config, wanted = unet(size), parameters_of(dit(size), CONDITIONING)
    found = parameters_of(config, CLIP)
    assert found == pytest.approx(wanted, rel=0.17)
    for channels in (config.channels - 32, config.channels + 32):
        distance = abs(parameters_of(replace(config, channels=channels), CLIP) - wanted)
        assert distance > abs(found - wanted), channels


def test_mean_velocities_cost_two_passes_for_their_share_and_guidance_two_for_all():
    """Two passes for every weight; scores and their products with values take a third."""
    recipe, shape = get_recipe("openmoji/dit-meanflow"), (4, 16, 16)
    model = meta_model(recipe.conditioning, recipe.denoiser, 3, 4)
    config, off = recipe.diffusion.meanflow, MeanFlowConfig()
    forward = denoiser_flops(model, shape)
    attention = 4 * 4 * 64**2 * 128  # blocks, two products of 2 FLOPs, tokens, width
    derivative = derivative_flops(model, shape)
    assert derivative == 2 * forward + attention
    plain = training_flops(model, shape, meanflow=off)
    assert plain == denoiser_flops(model, shape, backward=True)
    assert (
        training_flops(model, shape, meanflow=replace(config, kappa=0.0)) == plain + derivative / 4
    )
    assert training_flops(model, shape, meanflow=config) == plain + derivative / 4 + 2 * forward
    own = recipe.conditioning, recipe.denoiser
    planned = _training_flops(*own, shape, 0, recipe.train.repa, NO_MASKING, config)
    assert planned == training_flops(model, shape, meanflow=config)
