# SPDX-License-Identifier: Apache-2.0
"""JiT and DDT beyond the contract of all denoisers and their published outputs."""

from dataclasses import replace

import pytest
import torch

from pippin.conditioning.config import LabelSemantic
from pippin.config import ConfigError, protocol
from pippin.denoisers.ddt.config import DDTConfig, ddt
from pippin.denoisers.ddt.model import DDT
from pippin.denoisers.jit.config import JiTConfig, jit
from pippin.denoisers.jit.model import JiT
from pippin.nn.embeddings import from_channel_patches, to_patches
from pippin.nn.initialise import initialise
from pippin.recipes.checks import check_recipe
from pippin.recipes.table import get_recipe
from pippin.types import Embedded

WIDTH = 16
SMALL = {"depth": 3, "width": WIDTH, "num_heads": 2, "patch_size": 2}


def numbers(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def built(denoiser):
    """Denoiser whose gates and last layer are not zero."""
    initialise(denoiser, 0)
    draws = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for p in denoiser.parameters():
            p.add_(0.1 * torch.randn(p.shape, generator=draws))
    return denoiser


def embedded(tokens=None, mask=None):
    return Embedded(
        tokens=tokens, mask=mask, modulation=numbers(2, WIDTH), time=numbers(2, WIDTH, seed=3)
    )


@pytest.mark.parametrize("start", [0, 2])
def test_a_context_that_is_masked_is_no_context(start):
    """Tokens behind a mask, in front of the image's tokens, do not move these."""
    settings = SMALL | {"bottleneck_width": 8}
    with_context = built(JiT(JiTConfig(**settings, context_start=start), 3))
    without = JiT(JiTConfig(**settings), 3)
    without.load_state_dict(with_context.state_dict())
    x, tokens = numbers(2, 3, 8, 4), numbers(2, 5, WIDTH, seed=2)
    masked = with_context(x, embedded(tokens, torch.zeros(2, 5, dtype=torch.bool))).mean
    torch.testing.assert_close(masked, without(x, embedded()).mean, atol=1e-5, rtol=1e-5)
    assert (with_context(x, embedded(tokens)).mean - masked).abs().max() > 1e-3


def test_repeats_of_a_token_are_tokens_with_positions():
    settings = SMALL | {"bottleneck_width": 8, "context_start": 1}
    repeating = built(JiT(JiTConfig(**settings, context_repeats=3), 3))
    plain = JiT(JiTConfig(**settings), 3)
    state = dict(repeating.state_dict())
    positions = state.pop("context.positions")
    plain.load_state_dict(state)
    x, token = numbers(2, 3, 4, 4), numbers(2, 1, WIDTH, seed=2)
    expected = plain(x, embedded(token + positions)).mean
    assert torch.equal(repeating(x, embedded(token)).mean, expected)
    with pytest.raises(ValueError, match="repeats one condition token, got 4"):
        repeating(x, embedded(numbers(2, 4, WIDTH)))


def test_the_decoder_of_ddt_reads_conditions_through_the_state_only():
    denoiser = built(DDT(DDTConfig(**SMALL, encoder_depth=2, cross_attention=True), 3))
    x, conditions = numbers(2, 3, 4, 8), embedded(numbers(2, 5, WIDTH, seed=2))
    state = denoiser.encode(x, conditions)
    assert state.shape == (2, 8, WIDTH)
    assert torch.equal(denoiser.decode(x, state), denoiser(x, conditions).mean)
    other = denoiser.encode(x, replace(conditions, tokens=2 * conditions.tokens))
    assert (denoiser.decode(x, other) - denoiser.decode(x, state)).abs().max() > 1e-3
    with pytest.raises(ValueError, match=r"ddt needs Embedded\.time"):
        denoiser(x, replace(conditions, time=None))


def test_positions_of_ddt_cover_one_range_on_every_grid():
    """Row and column positions are linspace(0, 16, side); pairs alternate, the column first, with
    frequencies 10000^(-4 k / head width)."""
    denoiser = DDT(DDTConfig(**SMALL, encoder_depth=1), 3)
    rotary = denoiser._rotary(torch.zeros(1, 3, 6, 10), 8)
    rows, columns = torch.linspace(0, 16, 3), torch.linspace(0, 16, 5)
    column, row = columns.repeat(3), rows.repeat_interleave(5)
    slow = 10000.0 ** (-4 / 8)
    angles = torch.stack([column, row, column * slow, row * slow], dim=1)
    torch.testing.assert_close(rotary.cos, angles.cos(), atol=1e-5, rtol=0)
    torch.testing.assert_close(rotary.sin, angles.sin(), atol=1e-5, rtol=0)
    alone = denoiser._rotary(torch.zeros(1, 3, 2, 2), 8)  # one patch: no division by zero
    assert torch.equal(alone.sin, torch.zeros(1, 4))


def test_a_wide_decoder_reads_a_projected_state():
    config = DDTConfig(**SMALL, encoder_depth=2, decoder_width=32, decoder_heads=4)
    denoiser = built(DDT(config, 3))
    x, conditions = numbers(2, 3, 4, 8), embedded()
    state = denoiser.encode(x, conditions)
    assert state.shape == (2, 8, 32) and config.shape_text == "2 x 16 + 1 x 32"
    assert torch.equal(denoiser.decode(x, state), denoiser(x, conditions).mean)

    narrow = built(DDT(DDTConfig(**SMALL, encoder_depth=2), 3))
    encoder = {
        name: value
        for name, value in denoiser.state_dict().items()
        if name.startswith(("patches.encoder", "blocks.0", "blocks.1"))
    }
    narrow.load_state_dict(encoder, strict=False)  # the encoder is that of any DDT
    torch.testing.assert_close(denoiser.project_state(narrow.encode(x, conditions)), state)


def test_the_default_decoder_has_the_fingerprint_and_tensors_of_before():
    config = DDTConfig(**SMALL, encoder_depth=1)
    assert not {"decoder_width", "decoder_heads"} & set(protocol(config))
    assert not any("project_state" in name for name in DDT(config, 3).state_dict())
    same = replace(config, decoder_width=WIDTH, decoder_heads=2)
    assert DDT(same, 3).state_dict().keys() == DDT(config, 3).state_dict().keys()


def test_channel_patches_are_the_inverse_of_patches():
    x = numbers(2, 3, 6, 4)
    assert torch.equal(from_channel_patches(to_patches(x, 2), (3, 2), 2), x)


@pytest.mark.parametrize(
    ("config", "settings", "match"),
    [
        (JiTConfig, {"context_start": 3}, "context_start must be below denoiser.depth"),
        (JiTConfig, {"context_repeats": 4}, "no effect without denoiser.context_start"),
        (JiTConfig, {"width": 12}, "multiple of 4 for rotary"),
        (DDTConfig, {"encoder_depth": 3}, "encoder_depth must be below denoiser.depth"),
        (DDTConfig, {"encoder_depth": 1, "base_grid": 8}, "leave it out; got 8"),
        (DDTConfig, {"encoder_depth": 1, "width": 12}, "multiple of 4 for rotary"),
        (DDTConfig, {"encoder_depth": 1, "decoder_width": 20}, "decoder_width must be a multiple"),
        (DDTConfig, {"encoder_depth": 1, "decoder_heads": 8}, "got 16 and 8: give --denoiser"),
    ],
)
def test_settings_that_do_not_fit_are_refused(config, settings, match):
    with pytest.raises(ConfigError, match=match):
        config(**SMALL | settings)


def test_a_recipe_that_repeats_several_tokens_is_refused():
    recipe = get_recipe("openmoji/jit-pixels")
    semantic = LabelSemantic(num_tokens=4)
    wrong = replace(recipe, conditioning=replace(recipe.conditioning, semantic=semantic))
    with pytest.raises(ConfigError, match="num_tokens is 4: set that to 1"):
        check_recipe(wrong)
    read = wrong.denoiser.with_tokens()
    check_recipe(replace(wrong, denoiser=read))
    assert (read.context_start, read.context_repeats) == (1, None)


def test_sizes_are_the_published_ones():
    base, huge, xl = jit("B", context=True), jit("H", context=True), ddt("XL")
    assert (base.depth, base.width, base.patch_size, base.context_start) == (12, 768, 16, 4)
    assert (huge.depth, huge.bottleneck_width, huge.context_start) == (32, 256, 10)
    assert (xl.encoder_depth, xl.depth - xl.encoder_depth, xl.shape_text) == (
        22,
        6,
        "22 + 6 x 1152",
    )
    assert jit("tiny", context=False).context_start is None
